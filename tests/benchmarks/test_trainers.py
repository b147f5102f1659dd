"""The trainer benchmark counts by hand-computed cases, and measures whole runs of ours and of Train LoRA on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch

from benchmarks import one_training, step_meter, trainers
from workbench.tiny import tiny, tiny_model

JOB = {"batch": 1, "resolution": 64, "steps": 2, "precision": "fp32", "checkpointing": False, "memory": True}


def test_the_highest_sum_by_hand() -> None:
    assert step_meter.highest_sum([4, 3, -4, 2, -5]) == 7
    assert step_meter.highest_sum([-8, 3]) == 0  # what was there before is no part of it
    assert step_meter.highest_sum([]) == 0


def test_a_step_counts_its_gradient_its_temporaries_and_the_state_of_the_optimizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step_meter.torch.cuda, "is_initialized", lambda: False)
    weight = torch.nn.Parameter(torch.ones(1000))
    optimizer = torch.optim.AdamW([weight], foreach=False)
    with step_meter.StepMeter(memory_step=4) as meter:
        for _ in range(5):
            optimizer.zero_grad()
            temporary = torch.zeros(100_000)
            (weight.sum() + temporary.sum()).backward()
            del temporary
            optimizer.step()
    assert len(meter.ends) == 5 and len(meter.step_seconds()) == 3  # neither the first nor the one for memory
    assert meter.state_bytes == 2 * 4000 + 4  # both moments, and the number of steps
    assert 404_000 <= meter.peak_bytes < 404_100  # the temporary is there still when the gradient comes
    optimizer.step()
    assert len(meter.ends) == 5  # the meter is off


def test_medians_and_ratios_by_hand() -> None:
    def result(step: float, peak: int) -> dict[str, Any]:
        fixed = {"loading_seconds": 1.0, "encoding_seconds": 4.0, "startup_seconds": 1.0, "finishing_seconds": 4.0}
        return {**fixed, "step_seconds": [9 * step, step, step], "peak_bytes": peak}

    rounds = [
        {"checkpointing": False, "results": {"ours": result(1.0, 6), "train_lora": result(step, peak)}}
        for step, peak in ((2.0, 10), (4.0, 0), (1.5, 0))
    ]
    rows = {row["what"]: row for row in trainers.summary(rounds)}
    assert rows["a step, to Train LoRA's, without"]["value"] == 0.5
    assert rows["a step, to Train LoRA's, without"]["target"] == pytest.approx(1 / 1.2)
    assert rows["a run of 250 steps, to Train LoRA's, without"]["value"] == 260 / 510
    assert rows["memory beyond the weights, to Train LoRA's, without"]["value"] == 0.6
    assert rows["our start-up, in our steps, without"]["value"] == 1.0
    assert not any("diffusers" in what for what in rows)
    table = trainers.describe({"run": {"batch": 1}, "targets": list(rows.values()), "rounds": rounds})
    assert "| a step, to Train LoRA's, without | 0.50 | ≤ 0.83 |" in table
    assert "| ours, off | 1.0 | 1.0 | 4.0 | 1.0 | 4.0 | 0.00 |" in table


@pytest.mark.parametrize("trainer", ["train_ours", "train_lora"])
def test_whole_runs_are_measured(trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_paths, "output_directory", folder_paths.output_directory)
    base = tiny("sd1")
    base.model.cached_patcher_init = (lambda disable_dynamic: tiny_model("sd1"), ())  # what a loader leaves
    images = [torch.rand(64, 64, 3) for _ in range(2)]
    train = getattr(one_training, trainer)
    with torch.inference_mode():
        result = one_training.measured(JOB, lambda: train(base.model, base.clip, base.vae, images, JOB, tmp_path))
    assert len(result["step_seconds"]) == JOB["steps"] and result["peak_bytes"] > 100_000
    assert list(tmp_path.rglob("*.safetensors"))
