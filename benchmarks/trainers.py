"""Whole training runs of ICO Trainer beside those of other trainers: the same model, images, batch, resolution and precision.

COMFYUI_PATH=… python -m benchmarks.trainers [--layout small|sd15] [--latent 64] [--batch 1] [--steps 5] [--rounds 3]
    [--checkpointing off|on|both] [--diffusers-script PATH [--diffusers-python PATH]] [--json FILE]

The peers are the host's own node Train LoRA, and diffusers' train_custom_diffusion.py where its path is given. Each run has a process
of its own; a round holds one run of each, the next round goes through them backwards, and only ratios within a round are
compared. The model has random weights; its autoencoder is SD's own in "sd15", as one trainer encodes images in every step.
How a step's time and memory are taken stands in step_meter.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from comfyui_dci.dci_core.families import FAMILIES
from PIL import Image

from workbench.pack import HOST_VARIABLE, ROOT

PEERS = {"train_lora": "Train LoRA", "diffusers": "diffusers"}
MEMORY_TARGET, STARTUP_TARGET = 0.8, 1.0
STEP_TARGETS = {"train_lora": 1 / 1.2, "diffusers": 1.0}
RUN_TARGETS = {"diffusers": 1.0}
IMAGES, RUN_STEPS = 4, 250  # 250 steps are usual for Custom Diffusion


def main() -> None:
    """Run everything, print a table, and write what was measured."""
    given = _parser().parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        job = _prepare(given, folder)
        trainers = ["ours", "train_lora", *(["diffusers"] if given.diffusers_script else [])]
        settings = {"off": [False], "on": [True], "both": [False, True]}[given.checkpointing]
        rounds = []
        for number in range(given.rounds):
            for checkpointing in settings:
                order = trainers if number % 2 == 0 else trainers[::-1]
                some = {**job, "checkpointing": checkpointing, "memory": number == 0}
                results = {trainer: _run(trainer, some, given, folder) for trainer in order}
                rounds.append({"checkpointing": checkpointing, "results": results})
    run = {name: job[name] for name in ("layout", "latent", "batch", "steps", "precision")} | {"rounds": given.rounds}
    result = {"run": run, "targets": summary(rounds), "rounds": rounds}
    sys.stdout.write(describe(result) + "\n")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def summary(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is compared: of every ratio the median over the rounds, with its target or None."""
    rows = []
    for checkpointing in sorted({entry["checkpointing"] for entry in rounds}):
        some = [entry["results"] for entry in rounds if entry["checkpointing"] is checkpointing]
        how = "with checkpointing" if checkpointing else "without"

        def row(
            what: str, values: list[float], target: float | None, some: list[Any] = some, how: str = how
        ) -> dict[str, Any]:
            return {"what": f"{what}, {how}", "value": statistics.median(values), "target": target}

        for peer, name in PEERS.items():
            pairs = [(results["ours"], results[peer]) for results in some if peer in results]
            if pairs:
                steps = [step_seconds(own) / step_seconds(other) for own, other in pairs]
                whole = [run_seconds(own) / run_seconds(other) for own, other in pairs]
                peaks = [o["peak_bytes"] / p["peak_bytes"] for o, p in pairs if o["peak_bytes"] and p["peak_bytes"]]
                rows.append(row(f"a step, to {name}'s", steps, STEP_TARGETS[peer]))
                rows.append(row(f"a run of {RUN_STEPS} steps, to {name}'s", whole, RUN_TARGETS.get(peer)))
                rows.append(row(f"memory beyond the weights, to {name}'s", peaks, MEMORY_TARGET))
        starts = [results["ours"]["startup_seconds"] / step_seconds(results["ours"]) for results in some]
        rows.append(row("our start-up, in our steps", starts, STARTUP_TARGET))
    return rows


def step_seconds(result: dict[str, Any]) -> float:
    """Return the median step of a run."""
    return statistics.median(result["step_seconds"])


def run_seconds(result: dict[str, Any], steps: int = RUN_STEPS) -> float:
    """Return how long a run of that many steps takes: loading, encoding, start-up and finishing as measured, and its steps."""
    fixed = sum(result[f"{part}_seconds"] for part in ("loading", "encoding", "startup", "finishing"))
    return float(fixed + steps * step_seconds(result))


def describe(result: dict[str, Any]) -> str:
    """Return the result as two Markdown tables: ratios, and what they come from."""
    lines = [", ".join(f"{key} {value}" for key, value in result["run"].items()), ""]
    lines += ["| what | measured | target |", "|---|---|---|"]
    for row in result["targets"]:
        target = "" if row["target"] is None else f"≤ {row['target']:.2f}"
        lines.append(f"| {row['what']} | {row['value']:.2f} | {target} |")
    parts = ("loading", "encoding", "startup", "finishing")
    lines += ["", f"| trainer, checkpointing | step s | {' s | '.join(parts)} s | beyond the weights GB |"]
    lines += ["|" + "---|" * (len(parts) + 3)]
    for entry in result["rounds"]:
        for trainer, one in entry["results"].items():
            seconds = [step_seconds(one), *(one[f"{part}_seconds"] for part in parts)]
            peak = f"{one['peak_bytes'] / 1e9:.2f}" if one["peak_bytes"] else ""
            name = f"{trainer}, {'on' if entry['checkpointing'] else 'off'}"
            lines.append(f"| {name} | {' | '.join(f'{value:.1f}' for value in seconds)} | {peak} |")
    return "\n".join(lines)


def _prepare(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the checkpoint, the images and the pipeline of diffusers into the folder, and return the job of all runs."""
    checkpoint, pipeline = folder / f"{given.layout}.safetensors", folder / f"{given.layout}-pipeline"
    if not checkpoint.exists():
        full = ["--full"] if given.layout == "sd15" else []
        _start(sys.executable, "workbench.small_checkpoint", checkpoint, *full)
    if given.diffusers_script and not pipeline.exists():
        tokenizer = Path(os.environ[HOST_VARIABLE]) / "comfy" / "sd1_tokenizer"
        _start(given.diffusers_python, "benchmarks.diffusers_pipeline", checkpoint, tokenizer, pipeline)
    resolution, random = given.latent * FAMILIES["sd1"].pixels_per_latent, np.random.default_rng(0)
    images = [folder / f"images-{resolution}" / f"{number}.png" for number in range(IMAGES)]
    images[0].parent.mkdir(exist_ok=True)
    for path in images:
        Image.fromarray(random.integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)).save(path)
    return {
        **{name: getattr(given, name) for name in ("layout", "latent", "batch", "steps", "precision", "cpu")},
        "resolution": resolution,
        "checkpoint": str(checkpoint),
        "pipeline": str(pipeline),
        "script": str(given.diffusers_script and given.diffusers_script.resolve()),
        "images": [str(path) for path in images],
    }


def _run(trainer: str, job: dict[str, Any], given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the result of one run in a process of its own.

    Raises:
        CalledProcessError: the trainer failed.
    """
    job_file, result_file = folder / "job.json", folder / "result.json"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    python = given.diffusers_python if trainer == "diffusers" else sys.executable
    _start(python, "benchmarks.one_training", trainer, job_file, result_file, cpu=job["cpu"])
    result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    return result


def _start(python: str, module: str, *words: str | Path, cpu: bool = False) -> None:
    """Run a module of the checkout in a process of its own, without the internet; what it prints goes to the error stream.

    Raises:
        CalledProcessError: it failed.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if cpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [python, "-m", module, *(str(word) for word in words)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--layout", choices=["small", "sd15"], default="small", help="sd15 is SD1.5's true size")
    add("--latent", type=int, default=64, help="edge of the latent (default: 64, images of 512 pixels)")
    add("--batch", type=int, default=1)
    add("--steps", type=int, default=5, help="timed steps of a run, after one to warm up")
    add("--rounds", type=int, default=3, help="memory is measured in the first, in one more step")
    add("--checkpointing", choices=["off", "on", "both"], default="both", help="gradient checkpointing")
    add("--precision", choices=["fp32", "bf16"], default="fp32")
    add("--diffusers-script", type=Path, help="examples/custom_diffusion/train_custom_diffusion.py of diffusers")
    add("--diffusers-python", default=sys.executable, help="a Python with diffusers, accelerate and tensorboard")
    add("--folder", type=Path, help="keep checkpoint and pipeline there for the next call")
    add("--cpu", action="store_true", help="even where there is a GPU")
    add("--json", type=Path, metavar="FILE", help="write everything measured there")
    return parser


if __name__ == "__main__":
    main()
