"""A training on a small disk: its checkpoints and states do not take the room of its finished concept."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core import tensor_file
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.training.run import CheckpointPlan, KeepState
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.observer import TrainingObserver
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from training_runs import inputs, settings

from workbench.tiny import tiny

pytestmark = pytest.mark.sweep


class Warned(TrainingObserver):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


def test_a_checkpoint_after_every_step_does_not_cost_the_finished_concept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, write = tiny("mini"), tensor_file.save_file

    def train(root: Path) -> tuple[list[str], Path]:
        observer, plan = Warned(), CheckpointPlan(every=1, keep=9, keep_state=KeepState.NEVER)
        with torch.inference_mode():
            given = settings(steps=6, evaluate_every=2)
            concept, _ = train_concept(HostModel(*base), inputs(), given, Storage(root, plan), observer=observer)
        (folder,) = root.iterdir()
        assert load_concept(folder / "finished.safetensors").info == concept.info
        return observer.warned, folder

    warned, folder = train(tmp_path / "large")
    assert warned == []
    finished = (folder / "finished.safetensors").stat().st_size
    checkpoint = (folder / "step_000006.safetensors").stat().st_size
    room, small = finished + checkpoint // 2, tmp_path / "small"

    def free() -> int:
        return room - sum(file.stat().st_size for file in small.rglob("*") if file.is_file())

    def written(tensors: dict[str, torch.Tensor], path: Path, *given: Any, **more: Any) -> None:
        if sum(tensor.nbytes for tensor in tensors.values()) > free():
            raise OSError(28, "No space left on device")
        write(tensors, path, *given, **more)

    monkeypatch.setattr(tensor_file, "save_file", written)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free()))
    warned, folder = train(small)
    assert [file.name for file in folder.iterdir()] == ["finished.safetensors"]
    assert warned[0].startswith("Checkpoints and states of this training may need ")
    assert [text.split(":")[0] for text in warned[1:3]] == [
        "No checkpoint after step 1",
        "No best.safetensors after step 2",
    ]
