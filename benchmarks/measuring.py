"""Run stock and two-branch sampling in turn and take the time, the share of our own work, and the bytes held."""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import comfy.sample
import comfy.sd
import torch
from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.families import family_of
from comfyui_dci.nodes.host.sampling.conditioning import build_conditioning
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.host.tokenizer import embedding_widths
from comfyui_dci.nodes.host.weights import base_hash, key_value_weights

from benchmarks.clock import Clock
from benchmarks.forwards import gpu_peak, now, on_gpu, one_call, seconds_by_rows, work, work_of_run

PROMPT, NEGATIVE, NOUN = "a V* toy in times square, at night", "blurry, low quality", "dog"
KINDS = {"stock": None, "shared": {"share_guidance": True}, "exact": {"share_guidance": False}}
WHOLE_RUNS = {
    "processor_time": "processor time, which other programs disturb less",
    "flops": "multiplications and additions, which nothing disturbs",
    "operations": "PyTorch operations, which a GPU that waits for the processor takes",
}
HELD = {"record": "record_mb", "all held": "held_mb", "after T_a": "held_after_mb"}
ACTIVE_FRACTION, CFG, SEED = 0.15, 7.0, 1


def measure(checkpoint: Path, resolution: int, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Return everything measured; "targets" compares it with what the project promises."""
    with torch.inference_mode():
        model, positive, negative = _scene(checkpoint)
        scene = (positive, negative, torch.zeros(batch, *family_of(model).latent_shape(resolution)))
        _sample(model, None, *scene, 1)
        one_step = {kind: work(partial(_sample, model, settings, *scene, 1)) for kind, settings in KINDS.items()}
        two_steps = work(partial(_sample, model, None, *scene, 2))
        arguments = (*scene, steps)
        clocks = {kind: Clock() for kind in KINDS}
        for number in range(1, rounds + 1):
            for kind, settings in KINDS.items():
                clocks[kind].add(*_sample(model, settings, *arguments))
                sys.stderr.write(f"round {number} of {rounds}, {kind}: {clocks[kind].runs[-1]:.2f} s\n")
        with clocks["shared"].watching():  # watching costs time, so what is watched is not among the runs
            _sample(model, KINDS["shared"], *arguments)
        peaks = {kind: gpu_peak(partial(_sample, model, settings, *arguments)) for kind, settings in KINDS.items()}
        rows = seconds_by_rows(model, scene[2], rounds)
    device = torch.cuda.get_device_name() if on_gpu() else "CPU"
    run = {"device": device, "checkpoint": checkpoint.name, "size_px": resolution, "batch": batch, "rounds": rounds}
    summary = summary_of(clocks, steps, run)
    summary |= work_of_run(one_step, two_steps, steps, summary["active_steps"])
    return summary | {"gpu_peak_mb": peaks, "forward_seconds": rows, "one_call": one_call(rows)}


def describe(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    lines = [", ".join(f"{key} {value}" for key, value in result["run"].items()), "", "| what | measured | target |"]
    lines += ["|---|---|---|"]
    lines += [f"| {row['what']} | {row['value']:.3f} | ≤ {row['target']} |" for row in result["targets"]]
    held = ", ".join(f"{what} {result[key]:.1f} MB" for what, key in HELD.items())
    lines += ["", f"{result['active_steps']} of {result['run']['steps']} steps active; {held}"]
    for key, unit in WHOLE_RUNS.items():
        lines += [
            f"the whole runs in {unit}: {', '.join(f'{kind} {value:.3f}' for kind, value in result[key].items())}"
        ]
    shared, exact = result["one_call"].values()
    lines += [
        f"an active step in one call in place of two, at best: shared {shared:.3f}, exact {exact:.3f} of its time"
    ]
    if result["gpu_peak_mb"]["stock"]:
        told = ", ".join(f"{kind} {value:.1f} MB" for kind, value in result["gpu_peak_mb"].items())
        lines += [f"peak of GPU memory beyond what was there before the run: {told}"]
    return "\n".join(lines)


def _sample(
    model: Any, settings: Any, positive: Any, negative: Any, latent: Any, steps: int
) -> tuple[float, float, list[float]]:
    """Return the seconds of a run, its processor seconds, and the seconds of each of its steps but the first."""
    if settings is not None:
        model = apply_dci(model, DCISettings(active_fraction=ACTIVE_FRACTION, **settings))[0]
    times: list[float] = []
    noise = comfy.sample.prepare_noise(latent, SEED)
    start, cpu = now(), time.process_time()
    comfy.sample.sample(
        model,
        noise,
        steps,
        CFG,
        "euler",
        "normal",
        positive,
        negative,
        latent,
        callback=lambda *_: times.append(now()),
        disable_pbar=True,
        seed=SEED,
    )
    return now() - start, time.process_time() - cpu, [later - earlier for earlier, later in zip(times, times[1:])]


def summary_of(clocks: dict[str, Clock], steps: int, run: dict[str, Any]) -> dict[str, Any]:
    """Return the ratios of the clocks, and those that have targets.

    Args:
        clocks: by kind.
        steps: of a run.
        run: facts about all runs.
    """
    stock, shared, exact = (clocks[kind] for kind in KINDS)

    def ratio(own: list[float], plain: list[float]) -> float:
        return statistics.median(one / other for one, other in zip(own, plain))

    def late(clock: Clock) -> float:
        after = [row[shared.active_steps :] for row in clock.steps]  # the active ones, and one more to be sure
        return statistics.median(value for row in after for value in row)

    rows = [
        ("whole run, shared guidance", ratio(shared.runs, stock.runs), 1.10),
        ("whole run, exact guidance", ratio(exact.runs, stock.runs), 1.18),
        ("a step after T_a", late(shared) / late(stock), 1.01),
        ("our own work at the layers, share of the active steps", shared.own / shared.active_seconds, 0.03),
        ("recording masks, share of the active steps", shared.masks / shared.active_seconds, 0.02),
        ("bytes held, in records of the attention outputs", shared.held_bytes / max(shared.record_bytes, 1), 1.10),
    ]
    return {
        "run": {**run, "steps": steps},
        "active_steps": shared.active_steps,
        "seconds": {kind: clock.runs for kind, clock in clocks.items()},
        "processor_time": {"shared": ratio(shared.cpu, stock.cpu), "exact": ratio(exact.cpu, stock.cpu)},
        "record_mb": shared.record_bytes / 1e6,
        "held_mb": shared.held_bytes / 1e6,
        "held_after_mb": shared.held_after_bytes / 1e6,
        "targets": [{"what": what, "value": value, "target": target} for what, value, target in rows],
    }


def _scene(checkpoint: Path) -> tuple[Any, Any, Any]:
    """Return the model with a concept of zero change applied, the positive with its auxiliary text, and the negative."""
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=False, output_clip=True)
    deltas = {name: torch.zeros(weight.shape) for name, weight in key_value_weights(model).items()}
    generator = torch.Generator().manual_seed(SEED)
    tokens = {name: 0.02 * torch.randn(3, width, generator=generator) for name, width in embedding_widths(clip).items()}
    info = ConceptInfo(family_of(model).name, "toy", "V*", 1, 1, 3, 1, SEED, base_hash(model))
    model, clip = apply_concept(model, clip, Concept(deltas, tokens, info))
    positive = build_conditioning(clip, PROMPT, NOUN).conditioning
    return model, positive, clip.encode_from_tokens_scheduled(clip.tokenize(NEGATIVE))
