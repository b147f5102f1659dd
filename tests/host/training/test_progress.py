"""What the node says while it trains."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.nodes.host.training import progress
from comfyui_dci.nodes.host.training.progress import TrainingProgress


def test_loss_and_time_left_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    now = [100.0]
    monkeypatch.setattr(progress, "send_text", lambda text, node: told.append(text))
    monkeypatch.setattr(progress, "_on_gpu", lambda: False)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = TrainingProgress(200, "7")
    for step, loss in ((101, 0.5), (102, 0.25)):  # as after resuming
        bar.on_step(step, loss)
        now[0] += 2.0
    assert told[0] == "step 101 of 200, loss 0.5000 (mean of last 1: 0.5000)"
    assert told[1] == "step 102 of 200, loss 0.2500 (mean of last 2: 0.3750), 3 min 16 s left"


def test_what_was_announced_stays_above_whatever_follows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    monkeypatch.setattr(progress, "send_text", lambda text, node: told.append(text))
    monkeypatch.setattr(progress, "_on_gpu", lambda: False)
    bar = TrainingProgress(1, "7")
    with caplog.at_level("INFO", "comfyui_dci"):
        bar.announce("preset with_dci\nNo class images")
    bar.on_step(1, 0.5)
    bar.tell("1 steps.")
    heading = "preset with_dci\nNo class images"
    assert told == [heading, f"{heading}\nstep 1 of 1, loss 0.5000 (mean of last 1: 0.5000)", f"{heading}\n1 steps."]
    assert heading in caplog.text


def test_warnings_stay_on_the_node_below_what_was_announced_whatever_follows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    monkeypatch.setattr(progress, "send_text", lambda text, node: told.append(text))
    monkeypatch.setattr(progress, "_on_gpu", lambda: False)
    bar = TrainingProgress(2, "7")
    bar.announce("preset with_dci")
    bar.announce("Going on from step 1.")
    bar.on_step(2, 0.5)
    bar.warn("No checkpoint after step 2.")
    step = "step 2 of 2, loss 0.5000 (mean of last 1: 0.5000)"
    assert told[1:] == [
        "preset with_dci\nGoing on from step 1.",
        f"preset with_dci\nGoing on from step 1.\n{step}",
        f"preset with_dci\nGoing on from step 1.\nNo checkpoint after step 2.\n{step}",
    ]
    bar.tell("2 steps.")
    assert told[-1] == "preset with_dci\nGoing on from step 1.\nNo checkpoint after step 2.\n2 steps."
    assert "No checkpoint after step 2." in caplog.text


def test_of_many_warnings_the_newest_are_shown_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(progress, "send_text", lambda text, node: told.append(text))
    monkeypatch.setattr(progress, "_on_gpu", lambda: False)
    bar = TrainingProgress(2, "7")
    for number in range(progress.WARNINGS_SHOWN + 2):
        bar.warn(f"warning {number}")
    shown = [f"warning {number}" for number in range(2, progress.WARNINGS_SHOWN + 2)]
    assert told[-1].split("\n") == ["2 earlier warnings are in the log.", *shown]


@pytest.mark.parametrize("seconds, text", [(4.4, "4 s"), (61.0, "1 min 01 s"), (7325.0, "2 h 02 min")])
def test_durations_are_read_easily(seconds: float, text: str) -> None:
    assert progress._duration(seconds) == text


def test_the_memory_peak_of_this_run_is_told_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    peak = [9e9]  # of whatever ran before
    monkeypatch.setattr(progress, "send_text", lambda text, node: told.append(text))
    monkeypatch.setattr(progress.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(progress.torch.cuda, "reset_peak_memory_stats", lambda: peak.__setitem__(0, 0.0))
    monkeypatch.setattr(progress.torch.cuda, "max_memory_allocated", lambda: peak[0])
    monkeypatch.setattr(progress.comfy.model_management, "get_torch_device", lambda: torch.device("cuda"))
    bar = TrainingProgress(2, "7")
    peak[0] += 3.21e9
    bar.on_step(1, 0.5)
    assert told == ["step 1 of 2, loss 0.5000 (mean of last 1: 0.5000), peak 3.2 GB"]


def test_the_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_on_gpu", lambda: False)
    bar = TrainingProgress(40, None)
    with caplog.at_level("INFO", "comfyui_dci"):
        for step in range(1, 41):
            now[0] += 1.0
            bar.on_step(step, 0.5)
    steps = [line.split(",")[0] for line in caplog.messages]
    assert steps == [f"DCI: step {step} of 40" for step in (10, 20, 30, 40)]
