"""What a run keeps on disk, and how much room that takes."""

from __future__ import annotations

from typing import Any

import pytest
from comfyui_dci.dci_core.training.run import CheckpointPlan, KeepState
from comfyui_dci.dci_core.training.state import expected_size, state_of
from stored_runs import run


@pytest.mark.parametrize(
    "optimizer_share, changes", [(2.0, {"ema_decay": 0.0}), (2.0, {}), (2.0, {"mode": "key_value"})]
)
def test_the_size_of_a_state_is_known_before_it_is_made(optimizer_share: float, changes: dict[str, Any]) -> None:
    training = run(**changes)
    trained = sum(value.nbytes for value in training.parameters().values())
    assert expected_size(training) == trained * (1 + optimizer_share + (training.average is not None))
    training.step()
    tensors = state_of(training).tensors
    small = ("generator", "/step")
    assert expected_size(training) == sum(v.nbytes for n, v in tensors.items() if not n.endswith(small))


@pytest.mark.parametrize(
    "keep, size, kept",
    [
        (KeepState.UP_TO_1_GB, 1_000_000_000, True),
        (KeepState.UP_TO_1_GB, 1_000_000_001, False),
        (KeepState.ALWAYS, 10**12, True),
        (KeepState.NEVER, 1, False),
    ],
)
def test_large_states_are_kept_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, keep: KeepState, size: int, kept: bool
) -> None:
    monkeypatch.setattr("comfyui_dci.dci_core.training.run.expected_size", lambda training: size)
    plan = CheckpointPlan(keep_state=keep)
    assert plan.keeps_state(run(schedule="constant")) is kept
    assert plan.keeps_state(run(schedule="cosine")) is plan.keeps_state(run(schedule="linear")) is False


def test_the_room_a_run_may_need_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfyui_dci.dci_core.training.run.expected_size", lambda training: 1000)
    training = run(schedule="constant", steps=10, evaluate_every=2)

    def room(plan: CheckpointPlan) -> int:
        return plan.room(training, 100)

    # the finished concept, its state, the best one
    assert room(CheckpointPlan()) == 100 + 1000 + 50
    assert room(CheckpointPlan(keep_state=KeepState.NEVER)) == 100 + 50
    # checkpoints 8 and 10 and the one being written; two states and the one being written
    assert room(CheckpointPlan(every=2, keep=2)) == 100 + 1000 + 50 + 3 * 50 + 2 * 1000
    assert room(CheckpointPlan(every=1, keep=9)) == 100 + 1000 + 50 + 10 * 50 + 3 * 1000


def test_steps_that_last_by_hand() -> None:
    assert CheckpointPlan(every=2, keep=2, steps=(3, 11)).lasting(9) == [3, 6, 8]
    assert CheckpointPlan(every=0, keep=1, steps=(3, 5, 11)).lasting(9) == [3, 5]
    assert CheckpointPlan().lasting(9) == []
