"""A run on a small disk: what it writes on the way leaves room for its finished concept."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from comfyui_dci.dci_core.concept.file import save_concept, written_size
from comfyui_dci.dci_core.tensor_file import read_tensors
from comfyui_dci.dci_core.training.folder import BEST, TrainingFolder
from comfyui_dci.dci_core.training.run import HEADS, CheckpointPlan, run_training
from comfyui_dci.dci_core.training.state import expected_size
from stored_runs import KEY, Stop, assert_same_run, concept_of, quiet, run, stop_at, train

EVERY_STEP = CheckpointPlan(every=1, keep=9)
FULL = written_size(concept_of(run()), "float32")
STATE = expected_size(run())


class SmallDisk:
    """Say that so many bytes are free, less what the files of a folder take."""

    def __init__(self, size: int, folder: Path) -> None:
        self.size, self._folder = size, folder

    def free(self) -> int:
        return self.size - sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())


def small_disk(monkeypatch: pytest.MonkeyPatch, size: int, folder: TrainingFolder) -> SmallDisk:
    disk = SmallDisk(size, folder.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=disk.free()))
    return disk


def test_checkpoints_are_left_out_where_the_finished_concept_would_no_longer_fit(
    folder: TrainingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, told = run(evaluate_every=0), []
    run_training(whole, quiet)
    folder.warn = told.append
    disk = small_disk(monkeypatch, HEADS + FULL + 3 * STATE, folder)
    seen: list[int] = []
    training = train(folder, lambda number, loss: seen.append(disk.free()), EVERY_STEP, evaluate_every=0)
    assert_same_run(whole, training)
    assert min(seen) >= FULL
    written = len(folder.checkpoints())
    assert 0 < written < 7 and list(folder.checkpoints()) == list(range(1, written + 1))
    assert [text.split(":")[0] for text in told] == [f"No checkpoint after step {n}" for n in range(written + 1, 8)]
    assert told[0].endswith(f" are free in {folder.path}, and room is kept for the finished concept. Training goes on.")
    assert folder.latest_state() is not None


def test_the_best_concept_is_left_out_likewise_and_replaces_itself_where_it_is(
    folder: TrainingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    folder.warn = told.append
    half = written_size(concept_of(run()))
    disk = small_disk(monkeypatch, HEADS + FULL + half, folder)
    run_training(run(), quiet, folder, CheckpointPlan(), concept_of)
    assert told == [] and (folder.path / BEST).is_file()
    folder.clear()
    disk.size -= 1
    run_training(run(), quiet, folder, CheckpointPlan(), concept_of)
    assert told[0].startswith(f"No {BEST} after step 2: ") and list(folder.path.iterdir()) == []


def test_after_a_cancel_a_checkpoint_is_written_all_the_same(
    folder: TrainingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk(monkeypatch, FULL, folder)
    with pytest.raises(Stop):
        train(folder, stop_at(3), EVERY_STEP)
    assert list(folder.checkpoints()) == [3] and folder.latest_state() is not None


def test_checkpoints_of_another_run_are_not_copied_into_the_room_of_the_finished_concept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = TrainingFolder(tmp_path / "shorter", KEY, "path", [tmp_path])
    with pytest.raises(Stop):
        train(shorter, stop_at(4), CheckpointPlan(every=2, steps=(2,)), schedule="constant")
    told: list[str] = []
    longer = TrainingFolder(tmp_path / "longer", "m" * 64, "path", [tmp_path], told.append)
    small_disk(monkeypatch, FULL, longer)
    train(longer, quiet, CheckpointPlan(steps=(2,)), schedule="constant", steps=9)
    assert not longer.path.exists() or list(longer.path.iterdir()) == []
    assert told[0].startswith("No checkpoint after step 2: ")


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_is_written_is_as_large_as_foretold(tmp_path: Path, precision: str) -> None:
    concept = concept_of(run())
    save_concept(concept, tmp_path / "cat.safetensors", precision)
    tensors, _ = read_tensors(tmp_path / "cat.safetensors")
    assert sum(tensor.nbytes for tensor in tensors.values()) == written_size(concept, precision)
