"""What an active step costs with LoRA weakened in the auxiliary branch, as ratios of runs in turn within one process.

COMFYUI_PATH=… python -m benchmarks.auxiliary_weights [--checkpoint FILE] [--size 512] [--steps 6] [--rounds 3] [--cpu]

The LoRA is on every linear layer of the transformer blocks and convolution of the network, as trainers put it at the most.
Prints JSON; seconds mean nothing on another machine, and on the small checkpoint nothing does but that the script works.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.sd
import torch
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.families import family_of
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY, build_conditioning
from comfyui_dci.nodes.host.sampling.patch import apply_dci

from benchmarks.forwards import gpu_peak, now, on_gpu, work
from workbench.small_checkpoint import make_checkpoint

STRENGTHS = (1.0, 0.5)
RANK, CFG, SEED = 4, 7.0, 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: a small one with random weights")
    parser.add_argument("--size", type=int, default=512, help="pixels")
    parser.add_argument("--steps", type=int, default=6, help="denoising steps of a run, all of them active")
    parser.add_argument("--rounds", type=int, default=3, help="how often each kind is run after one to warm up")
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = given.checkpoint or Path(folder) / "small.safetensors"
        if given.checkpoint is None:
            make_checkpoint(checkpoint, full=False)
        model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=False, output_clip=True)
    result = {"checkpoint": checkpoint.name, **measure(model, clip, given.size, given.steps, given.rounds)}
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


@torch.inference_mode()
def measure(model: Any, clip: Any, size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Return the ratios and what they were measured on.

    Args:
        model: a host MODEL.
        clip: its CLIP.
        size: of the images, in pixels.
        steps: of a run, at least 3: the first makes the weights and is counted apart.
        rounds: how often each kind is run.
    """
    model = comfy.sd.load_lora_for_models(model, None, lora_file(model), 1.0, 0.0)[0]
    model = apply_dci(model, DCISettings(active_fraction=1.0))[0]
    positive = build_conditioning(clip, "sks toy in times square, at night", "dog", subject="sks toy").conditioning
    negative = clip.encode_from_tokens_scheduled(clip.tokenize("blurry"))
    empty = torch.zeros(1, *family_of(model).latent_shape(size))

    def run(strength: float, length: int = steps) -> list[float]:
        return _seconds_of_steps(model, _at(positive, strength), negative, empty, length)

    times: dict[float, list[list[float]]] = {strength: [] for strength in STRENGTHS}
    for number in range(rounds + 1):
        for strength, rows in times.items():
            rows.append(run(strength))
            sys.stderr.write(f"round {number} of {rounds}, strength {strength}: {sum(rows[-1]):.2f} s\n")
    same, weaker = (rows[1:] for rows in times.values())
    plain = statistics.median(seconds for row in same for seconds in row[1:])
    exchanged = statistics.median(seconds for row in weaker for seconds in row[1:])
    operations = {strength: _operations_of_a_step(partial(run, strength)) for strength in STRENGTHS}
    first = statistics.median(row[0] - other[0] for row, other in zip(weaker, same))
    return {
        "device": torch.cuda.get_device_name() if on_gpu() else "CPU",
        "size_px": size,
        "steps": steps,
        "rounds": rounds,
        "weights": len(model.patches),
        "weights_gb": round(sum(_bytes(model, key) for key in model.patches) / 1e9, 3),
        "active_step_seconds": round(plain, 4),
        "active_step_ratio": round(exchanged / plain, 3),
        "first_step_more_in_steps": round(first / plain, 2),
        "operations_ratio": round(operations[0.5] / operations[1.0], 3),
        "gpu_peak_mb": {strength: round(gpu_peak(partial(run, strength, 2))) for strength in STRENGTHS},
    }


def lora_file(model: Any) -> dict[str, torch.Tensor]:
    """Return a LoRA of ``RANK`` on all layers that trainers can put one on."""
    generator = torch.Generator().manual_seed(SEED)
    file = {}
    for key, weight in model.model.state_dict().items():
        if key.endswith(".weight") and weight.ndim in (2, 4):
            layer, inner = key.removesuffix(".weight"), weight[0].numel()
            file[f"{layer}.lora_up.weight"] = 0.01 * torch.randn(len(weight), RANK, generator=generator)
            file[f"{layer}.lora_down.weight"] = 0.01 * torch.randn(RANK, inner, generator=generator)
    return file


def _at(positive: Any, strength: float) -> Any:
    return [
        [text, {**options, CARRIED_KEY: dataclasses.replace(options[CARRIED_KEY], lora_strength=strength)}]
        for text, options in positive
    ]


def _seconds_of_steps(model: Any, positive: Any, negative: Any, empty: torch.Tensor, steps: int) -> list[float]:
    """Return the seconds of each step of a run; the first has all that is done once."""
    noise = comfy.sample.prepare_noise(empty, SEED)
    comfy.model_management.load_models_gpu([model])
    ends = [now()]

    def end(*_: Any) -> None:
        ends.append(now())

    comfy.sample.sample(
        model,
        noise,
        steps,
        CFG,
        "euler",
        "normal",
        positive,
        negative,
        empty,
        callback=end,
        disable_pbar=True,
        seed=SEED,
    )
    return [later - earlier for earlier, later in zip(ends, ends[1:])]


def _operations_of_a_step(run: Callable[[int], Any]) -> int:
    """Return the PyTorch operations of a step that is not a run's first."""
    return work(lambda: run(3)).operations - work(lambda: run(2)).operations


def _bytes(model: Any, key: str) -> int:
    weight = model.get_key_patches(key)[key][0][0]
    return int(weight.numel() * weight.element_size())


if __name__ == "__main__":
    main()
