"""One whole training run by one trainer, in a process of its own: python -m benchmarks.one_training TRAINER JOB.json RESULT.json.

The job is what trainers.py writes; the result holds seconds and bytes. "ours" and "train_lora" load the checkpoint with the host's own
loader and run as its executor does, in inference mode; "diffusers" runs the user's copy of the script, in the
user's environment, which need not be able to run ComfyUI: hence the host's modules are imported where they are used.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.step_meter import StepMeter

NOUN, PROMPT = "cat", "photo of a {} cat"


def main() -> None:
    """Run what the command line names."""
    trainer, job_file, result_file = sys.argv[1:]
    del sys.argv[1:]
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        result = TRAINERS[trainer](job, Path(folder))
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def in_host(train: Callable[..., Any]) -> Callable[[dict[str, Any], Path], dict[str, Any]]:
    """Return what loads the host's objects and times a training on them."""

    def run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
        import comfy.sd

        with torch.inference_mode():
            started = time.perf_counter()
            model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(job["checkpoint"])
            loading = time.perf_counter() - started
            vae.encode, encoding = _timed(vae.encode)
            images = [_read(Path(path)) for path in job["images"]]
            return measured(job, lambda: train(model, clip, vae, images, job, folder), encoding, loading)

    return run


def measured(
    job: dict[str, Any], train: Callable[[], Any], encoding: list[float] | None = None, loading: float = 0.0
) -> dict[str, Any]:
    """Run a training under the meter.

    Args:
        job: "steps" and "memory" are read.
        train: the run.
        encoding: receives the seconds of encoding images to latents before the first step; they are no part of the start-up.
        loading: seconds that went by before, for loading the checkpoint.

    Returns:
        the seconds of each timed step, of loading, encoding, start-up (until the first step begins, taking it for as long as
        the others) and finishing, and the bytes of the step whose memory was measured.
    """
    with StepMeter(total_steps(job) if job["memory"] else 0) as meter:
        started = time.perf_counter()
        train()
        ended = time.perf_counter()
    steps, latents = meter.step_seconds(), sum(encoding or [])
    return {
        "step_seconds": steps,
        "loading_seconds": loading,
        "encoding_seconds": latents,
        "startup_seconds": max(meter.ends[0] - started - latents - statistics.median(steps), 0.0),
        "finishing_seconds": ended - meter.ends[-1],
        "peak_bytes": meter.peak_bytes + meter.state_bytes,
    }


def total_steps(job: dict[str, Any]) -> int:
    """Return the steps of a run: one to warm up, the timed ones, and one for the memory where it is measured."""
    return 1 + int(job["steps"]) + int(job["memory"])


def train_ours(model: Any, clip: Any, vae: Any, images: list[Any], job: dict[str, Any], folder: Path) -> None:
    """Train as the node ICO Trainer does: K, V and one new token, the run kept on disk."""
    from comfyui_dci.dci_core.concept.scheme import ICOScheme
    from comfyui_dci.dci_core.training.settings import TrainingMode, TrainingSettings
    from comfyui_dci.nodes.host.model import HostModel
    from comfyui_dci.nodes.host.training.inputs import TrainingInputs
    from comfyui_dci.nodes.host.training.trainer import Storage, train_concept

    settings = TrainingSettings(
        mode=TrainingMode.CUSTOM_DIFFUSION,
        scheme=ICOScheme(concept_vectors=1),
        flip=False,
        steps=total_steps(job),
        batch_size=job["batch"],
        precision=job["precision"],
        gradient_checkpointing=job["checkpointing"],
    )
    inputs = TrainingInputs(images, NOUN, resolution=job["resolution"])
    train_concept(HostModel(model, clip, vae), inputs, settings, Storage(folder))


def train_lora(model: Any, clip: Any, vae: Any, images: list[Any], job: dict[str, Any], folder: Path) -> None:
    """Train and save with the host's nodes Train LoRA and Save LoRA, at their defaults but for what the job sets."""
    import folder_paths
    from comfy_extras.nodes_train import SaveLoRA, TrainLoraNode

    schema = TrainLoraNode.define_schema()
    inputs = {given.id: [given.default] for given in schema.inputs if getattr(given, "default", None) is not None}
    inputs |= {
        "model": [model],
        "latents": [{"samples": vae.encode(torch.stack(images))}],
        "positive": [clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT.format("new1")))],
        "steps": [total_steps(job)],
        "batch_size": [job["batch"]],
        "training_dtype": [job["precision"]],
        "lora_dtype": [job["precision"]],
        "gradient_checkpointing": [job["checkpointing"]],
    }
    lora, _, steps = TrainLoraNode.execute(**inputs).result
    folder_paths.set_output_directory(str(folder))
    SaveLoRA.execute(lora, "loras/trained", steps)


def train_diffusers(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run diffusers' train_custom_diffusion.py on the pipeline made by diffusers_pipeline.py; imports are not counted."""
    spec = importlib.util.spec_from_file_location("train_custom_diffusion", job["script"])
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    arguments = {
        "pretrained_model_name_or_path": job["pipeline"],
        "instance_data_dir": str(Path(job["images"][0]).parent),
        "instance_prompt": PROMPT.format("<new1>"),
        "modifier_token": "<new1>",
        "initializer_token": "sks",
        "resolution": job["resolution"],
        "train_batch_size": job["batch"],
        "max_train_steps": total_steps(job),
        "lr_warmup_steps": 0,
        "mixed_precision": {"fp32": "no"}.get(job["precision"], job["precision"]),
        "output_dir": str(folder / "out"),
        "logging_dir": str(folder / "logs"),
    }
    flags = ["noaug", "center_crop", *(["gradient_checkpointing"] if job["checkpointing"] else [])]
    words = [f"--{name}={value}" for name, value in arguments.items()] + [f"--{flag}" for flag in flags]
    return measured(job, lambda: script.main(script.parse_args(words)))


def _timed(function: Callable[..., Any]) -> tuple[Callable[..., Any], list[float]]:
    """Return the function, writing down the seconds of each call, and the list they are written to."""
    seconds: list[float] = []

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - started)

    return timed, seconds


def _read(path: Path) -> Any:
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.float32) / 255.0)  # [h, w, 3]


TRAINERS: dict[str, Callable[[dict[str, Any], Path], dict[str, Any]]] = {
    "ours": in_host(train_ours),
    "train_lora": in_host(train_lora),
    "diffusers": train_diffusers,
}

if __name__ == "__main__":
    main()
