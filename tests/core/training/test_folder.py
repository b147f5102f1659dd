"""What the folder of a run holds: checkpoints, the best and the finished concept, and no more states than are needed."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.files import ABANDONED_AFTER
from comfyui_dci.dci_core.tensor_file import read_tensors
from comfyui_dci.dci_core.training.folder import FINISHED, TrainingFolder
from comfyui_dci.dci_core.training.run import CheckpointPlan, best_evaluation, run_training
from stored_runs import KEY, assert_same_run, concept_of, quiet, run, train


def test_a_lost_process_leaves_the_last_checkpoint(folder: TrainingFolder) -> None:
    """A killed process runs no handler: what is on disk before is all there is."""
    seen: dict[int, list[str]] = {}
    train(folder, lambda number, loss: seen.update({number: sorted(f.name for f in folder.path.glob("step*"))}))
    assert seen[1] == []
    assert seen[3] == ["step_000002.resume", "step_000002.safetensors"]
    assert seen[5] == [f"step_00000{n}.{kind}" for n in (2, 4) for kind in ("resume", "safetensors")]
    assert seen[7] == [f"step_00000{n}.{kind}" for n in (4, 6) for kind in ("resume", "safetensors")]


def test_checkpoints_are_concepts_of_their_step_and_given_steps_are_kept(folder: TrainingFolder) -> None:
    training = train(folder, plan=CheckpointPlan(every=1, keep=1, steps=(2, 5)))
    folder.finish(concept_of(training))
    assert list(folder.checkpoints()) == [2, 5, 7]
    for step, path in folder.checkpoints().items():
        assert load_concept(path).info.steps == step
    assert list(folder.path.glob("*.resume")) == []


def states(folder: TrainingFolder) -> list[int]:
    return sorted(int(file.stem.removeprefix("step_")) for file in folder.path.glob("*.resume"))


def leave_behind(folder: TrainingFolder) -> None:
    """Leave what a killed process leaves: a state whose concept was never written, and half a file, days ago."""
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / "step_000001.resume").write_bytes(b"state")
    half = folder.path / ".step_000001-0a1b.tmp"
    half.write_bytes(b"half")
    days_ago = time.time() - 2 * ABANDONED_AFTER
    os.utime(half, (days_ago, days_ago))


@pytest.mark.parametrize("keep", [1, 3])
def test_no_more_states_than_checkpoints_and_never_more_than_two_are_kept_even_after_a_kill(
    folder: TrainingFolder, keep: int
) -> None:
    leave_behind(folder)
    seen: dict[int, list[int]] = {}
    plan = CheckpointPlan(every=2, keep=keep, steps=(3,))
    train(folder, lambda number, loss: seen.update({number: states(folder)}), plan)
    due = [2, 3, 4, 6]  # one of them because it was asked for
    assert seen == {1: [1]} | {n: [step for step in due if step <= n][-min(keep, 2) :] for n in range(2, 8)}
    assert list(folder.checkpoints()) == sorted({3, *due[-keep:]})
    assert list(folder.path.glob(".*")) == []


def test_a_finished_run_keeps_concepts_and_no_states_on_the_way(folder: TrainingFolder) -> None:
    training = train(folder, plan=CheckpointPlan(every=3, keep=2))
    assert states(folder) == [3, 6]
    leave_behind(folder)
    folder.finish(concept_of(training))
    names = ["best.safetensors", "finished.safetensors", "step_000003.safetensors", "step_000006.safetensors"]
    assert sorted(file.name for file in folder.path.iterdir()) == names


def test_a_state_that_cannot_be_deleted_does_not_cost_the_concept(
    folder: TrainingFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.path / "locked.resume").mkdir(
        parents=True
    )  # a folder cannot be unlinked, as a file in use cannot on Windows
    folder.finish(concept_of(train(TrainingFolder(folder.path.parent / "other", KEY))))
    assert folder.finished() is not None
    assert "Delete its .resume files yourself." in caplog.text


def test_a_state_whose_concept_does_not_fit_on_the_disk_is_not_left_behind(
    folder: TrainingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("comfyui_dci.dci_core.training.folder.save_concept", full)
    train(folder)
    assert list(folder.path.iterdir()) == []


def test_a_kept_step_holds_what_training_to_that_step_gives(folder: TrainingFolder) -> None:
    train(folder, plan=CheckpointPlan(steps=(3,)), schedule="constant", ema_decay=0.0)
    short = run(steps=3, schedule="constant", ema_decay=0.0)
    run_training(short, quiet)
    kept, expected = load_concept(folder.checkpoints()[3]), concept_of(short)
    assert all(torch.equal(kept.tokens[name], expected.tokens[name]) for name in expected.tokens)
    for name, delta in expected.deltas.items():
        assert torch.equal(kept.deltas[name], delta.half().float()) and delta.any()


def test_the_finished_concept_is_exact_and_of_its_key_only(folder: TrainingFolder) -> None:
    concept = concept_of(train(folder))
    folder.finish(concept)
    read = folder.finished()
    assert read is not None and read.info == concept.info
    assert all(torch.equal(read.deltas[name], delta) for name, delta in concept.deltas.items())
    assert TrainingFolder(folder.path, "other").finished() is None
    (folder.path / "finished.safetensors").write_bytes(b"half")
    assert folder.finished() is None


def test_a_full_disk_costs_checkpoints_but_not_the_run(
    folder: TrainingFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run()
    run_training(whole, quiet)

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("comfyui_dci.dci_core.tensor_file.save_file", full)
        assert_same_run(whole, train(folder))
    said = f"The checkpoint of step 2 could not be written to {folder.path}: No space left on device. Training goes on."
    assert said in caplog.text
    assert list(folder.path.iterdir()) == []


def test_files_that_were_read_can_be_deleted_and_replaced_on_any_system(folder: TrainingFolder) -> None:
    """On Windows a file cannot be deleted while its tensors are views into it."""
    folder.finish(concept_of(train(folder)))
    tensors, _ = read_tensors(folder.path / FINISHED)
    (folder.path / FINISHED).write_bytes(
        b"\xff" * (folder.path / FINISHED).stat().st_size
    )  # in place: a view would change
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_starting_anew_deletes_what_a_run_left(folder: TrainingFolder) -> None:
    folder.finish(concept_of(train(folder)))
    leave_behind(folder)
    (folder.path / "notes.txt").write_text("mine")
    folder.clear()
    assert [file.name for file in folder.path.iterdir()] == ["notes.txt"]


def test_the_best_evaluated_concept_is_kept_and_marked(folder: TrainingFolder) -> None:
    training = run(steps=6)
    losses = iter([4.0, 3.0, 1.0, 2.0])  # the first one before the first step
    training.evaluation_loss = lambda: next(losses)
    run_training(training, quiet, folder, CheckpointPlan(), concept_of)
    best = best_evaluation(training)
    assert best is not None and best["step"] == 4.0
    assert set(best) == {"step", "loss", "loss_without_contexts", "drift"}
    assert load_concept(folder.path / "best.safetensors").info.steps == 4


@pytest.mark.parametrize(
    "values, message",
    [
        ({"every": -1}, "checkpoint_every must be between 0 and 100000, but got -1"),
        ({"keep": 0}, "checkpoints_kept must be between 1 and 1000, but got 0"),
        ({"steps": (0,)}, r"checkpoint_steps must be steps from 1 on, but got \[0\]"),
    ],
)
def test_a_plan_outside_its_range_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        CheckpointPlan(**values)
