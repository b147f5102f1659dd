"""What one training step costs against one no-grad forward of the same batch, measured in turns in one run.

COMFYUI_PATH=… python -m benchmarks.training_step [--layout small|sd15] [--latent 64] [--batch 2] [--rounds 5] [--cpu]

Prints ratios as JSON; seconds mean nothing on another machine. "small" has SD1.5's layers at a fifth of their width and says
only that the script works: narrow layers make other ratios. The text encoder's share is stated beside the UNet's step.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo
from comfyui_dci.dci_core.concept.file import save_concept
from comfyui_dci.dci_core.training.settings import TrainingSettings
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.description import key_of
from comfyui_dci.nodes.host.training.inputs import TrainingInputs
from comfyui_dci.nodes.host.training.preparation import prepare_training

from workbench.tiny import LARGER, larger


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=list(LARGER), default="small", help="sd15 is SD1.5's true size")
    parser.add_argument(
        "--latent", type=int, default=64, help="edge of the latent (default: 64, an image of 512 pixels)"
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="each thing is timed once per round; the median counts")
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    sys.stdout.write(json.dumps(measure(given), indent=1) + "\n")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return the ratios and what they were measured on."""
    base = HostModel(*larger(given.layout))
    generator = torch.Generator().manual_seed(1)
    edge = given.latent * base.family.pixels_per_latent
    images = [torch.rand(edge, edge, 3, generator=generator) for _ in range(given.batch)]
    inputs = TrainingInputs(images, "cat", resolution=edge)
    variants = {
        "plain": TrainingSettings(batch_size=given.batch, flip=False),
        "checkpointing": TrainingSettings(batch_size=given.batch, flip=False, gradient_checkpointing=True),
        "low_rank": TrainingSettings(batch_size=given.batch, flip=False, rank=16),
    }
    with torch.inference_mode():
        encoding = _seconds(lambda: base.vae.encode(torch.stack(images)))
        hashing = _seconds(lambda: key_of(base, inputs, variants["plain"]))
        started = time.perf_counter()
        runs = {"plain": prepare_training(base, inputs, variants["plain"])}
        preparing = time.perf_counter() - started - encoding
        for name in variants.keys() - runs.keys():
            runs[name] = prepare_training(base, inputs, variants[name])
            _share_frozen_weights(runs["plain"], runs[name])
    times = _times(runs, given.rounds)
    forward = times.pop("forward")
    text = {name: times.pop(f"text {name}") for name in runs}
    return {
        "device": _device(),
        "torch": torch.__version__,
        "layout": given.layout,
        "latent": given.latent,
        "batch": given.batch,
        "forward_seconds": round(forward, 4),
        "unet_step_over_forward": {name: round((times[name] - text[name]) / forward, 2) for name in runs},
        "text_encoder_over_forward": {name: round(text[name] / forward, 2) for name in runs},
        "startup_over_step": round((preparing + hashing) / times["plain"], 2),
        "of_which_hashing": round(hashing / times["plain"], 2),
        "peak_gb_beyond_weights": _peaks(runs),
        "files": _files(runs["plain"]),
    }


def _share_frozen_weights(one: Any, other: Any) -> None:
    """Let a run read another's frozen UNet weights, so that the three runs fit beside each other."""
    frozen = dict(one.model.denoiser.unet.named_parameters())
    for name, parameter in other.model.denoiser.unet.named_parameters():
        if not parameter.requires_grad and not frozen[name].requires_grad:
            parameter.data = frozen[name].data


def _times(runs: dict[str, Any], rounds: int) -> dict[str, float]:
    """Return median seconds of a forward, and per run of a step and of its text encoder with its backward pass."""
    plain = runs["plain"]
    indices = torch.arange(plain.settings.batch_size)
    latents = torch.stack([plain.references.latents[i][0] for i in indices.tolist()])
    with torch.no_grad():
        text = plain.reference_text(indices)
    timesteps = torch.full((len(indices),), 500, device=latents.device)

    def forward() -> None:
        with torch.no_grad():
            plain.model.denoiser(latents, timesteps, text)

    def encode_text(run: Any) -> None:
        run.reference_text(indices).context.sum().backward()

    work: dict[str, Callable[[], Any]] = {"forward": forward}
    work |= {f"text {name}": functools.partial(encode_text, run) for name, run in runs.items()}
    work |= {name: run.step for name, run in runs.items()}
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, job in work.items():
            seconds = _seconds(job)
            if number:  # the first round warms up
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def _peaks(runs: dict[str, Any]) -> dict[str, float]:
    """Return the memory of a step beyond what is there before: CUDA's counter, or what autograd keeps on a CPU."""
    peaks = {}
    for name, run in runs.items():
        if torch.cuda.is_available() and _device() != "cpu":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run.step()
            peaks[name] = torch.cuda.max_memory_allocated() - before
            continue
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        own = {parameter.data_ptr() for parameter in run.model.denoiser.unet.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            run.step()
        peaks[name] = sum(size for place, size in kept.items() if place not in own)
    return {name: round(value / 1e9, 3) for name, value in peaks.items()}


def _files(run: Any) -> dict[str, Any]:
    """Return the size of a concept file, whole and at rank 32, and the error of the latter for what was just trained."""
    scheme = run.settings.scheme
    info = ConceptInfo("sd1", "cat", "V*", scheme.prefix, scheme.suffix, scheme.concept_vectors, run.steps_done, 0, "")
    tokens = {name: value.detach().cpu() for name, value in run.prompts.tokens.items()}
    concept = Concept(run.deltas(), tokens, info)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "concept.safetensors"
        save_concept(concept, path)
        whole = path.stat().st_size
        error = save_concept(concept, path, rank=32)
        return {
            "fp16_mb": round(whole / 1e6, 2),
            "rank_32_mb": round(path.stat().st_size / 1e6, 2),
            "error": round(error, 3),
        }


def _seconds(job: Callable[[], Any]) -> float:
    started = time.perf_counter()
    job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _device() -> str:
    return str(comfy.model_management.get_torch_device())


if __name__ == "__main__":
    main()
