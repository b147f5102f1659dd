"""What the node says of the state of a finished run, when its concept is returned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from comfyui_dci.dci_core.training.run import CheckpointPlan, KeepState
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.observer import TrainingObserver
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from training_runs import inputs, settings

from workbench.tiny import Tiny, tiny

pytestmark = pytest.mark.sweep
UP_TO_1_GB, ALWAYS, NEVER = KeepState.UP_TO_1_GB, KeepState.ALWAYS, KeepState.NEVER


class Listener(TrainingObserver):
    def __init__(self) -> None:
        self.announced: list[str] = []

    def announce(self, text: str) -> None:
        self.announced.append(text)


@pytest.fixture(scope="module")
def base() -> Tiny:
    return tiny("mini")


def train(base: Tiny, root: Path, keep_state: KeepState, steps: int = 2, schedule: str = "constant") -> list[str]:
    """Return what was announced."""
    listener = Listener()
    storage = Storage(root, CheckpointPlan(keep_state=keep_state))
    given = settings(steps=steps, schedule=schedule)
    with torch.inference_mode():
        train_concept(HostModel(*base), inputs(), given, storage, observer=listener)
    return listener.announced


def test_a_state_that_is_deleted_is_spoken_of_once(base: Tiny, tmp_path: Path) -> None:
    root = tmp_path / "training"
    train(base, root, UP_TO_1_GB)
    (state,) = root.glob("*/finished.resume")
    assert train(base, root, UP_TO_1_GB) == train(base, root, ALWAYS) == []
    said = f"The state of training/{state.parent.name} was deleted, as keep_state is never."
    assert train(base, root, NEVER) == [said] and not state.exists()
    assert train(base, root, NEVER) == []


def test_a_state_that_always_asks_for_and_is_not_there_is_spoken_of(base: Tiny, tmp_path: Path) -> None:
    root = tmp_path / "training"
    train(base, root, NEVER)
    (folder,) = root.iterdir()
    assert train(base, root, UP_TO_1_GB) == []
    assert train(base, root, ALWAYS) == [
        f"training/{folder.name} holds no state, so more steps would begin at step 1; switch reuse off to train it anew "
        "with its state kept."
    ]


def test_a_run_whose_state_a_longer_one_has_taken_over_lacks_none(base: Tiny, tmp_path: Path) -> None:
    train(base, tmp_path, ALWAYS)
    train(base, tmp_path, ALWAYS, steps=3)
    assert len(list(tmp_path.glob("*/finished.resume"))) == 1
    assert train(base, tmp_path, ALWAYS) == []


def test_where_no_run_goes_on_no_state_is_missed(base: Tiny, tmp_path: Path) -> None:
    train(base, tmp_path, ALWAYS, schedule="cosine")
    assert train(base, tmp_path, ALWAYS, schedule="cosine") == []
