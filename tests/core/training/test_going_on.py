"""A run with more steps goes on from a shorter one of the same inputs, and ends as if it had taken all steps itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.tensor_file import read_tensors
from comfyui_dci.dci_core.training.concept_training import ConceptTraining
from comfyui_dci.dci_core.training.folder import FINISHED_STATE, TrainingFolder
from comfyui_dci.dci_core.training.run import CheckpointPlan, run_training
from comfyui_dci.dci_core.training.settings import TrainingMode
from comfyui_dci.dci_core.training.state import state_of
from stored_runs import Stop, assert_same_run, quiet, run, stop_at
from stored_runs import concept_of as plain_concept_of

PLAN = CheckpointPlan(every=2, keep=6)


def concept_of(training: ConceptTraining) -> Concept:
    concept = plain_concept_of(training)
    history = {**concept.info.history, "evaluations": list(training.evaluations), "start": training.start}
    info = replace(concept.info, training_key=key_of(training.settings.steps), history=history)
    return replace(concept, info=replace(info, settings={"steps": training.settings.steps}))


def key_of(steps: int) -> str:
    return f"key of {steps} steps"


def folder_of(root: Path, steps: int, told: list[str] | None = None) -> TrainingFolder:
    warn = (lambda text: None) if told is None else told.append
    return TrainingFolder(root / f"cat-{steps:012d}", key_of(steps), "path", (root,), warn)


def train(
    root: Path,
    steps: int,
    on_step: Any = quiet,
    plan: CheckpointPlan = PLAN,
    told: list[str] | None = None,
    **changes: Any,
) -> tuple[ConceptTraining, list[int]]:
    """Return the run, finished and kept with its state, and the steps that were really taken."""
    training, taken = run(**{"schedule": "constant", "warmup_steps": 0, **changes, "steps": steps}), []
    folder = folder_of(root, steps, told)

    def watch(step: int, loss: float) -> None:
        taken.append(step)
        on_step(step, loss)

    run_training(training, watch, folder, plan, concept_of)
    folder.finish(concept_of(training), state_of(training))
    return training, taken


def content(root: Path, steps: int) -> dict[str, Any]:
    """Return everything in the folder of a run."""
    found = {}
    for file in folder_of(root, steps).path.iterdir():
        tensors, metadata = read_tensors(file)
        found[file.name] = ({name: value.tolist() for name, value in tensors.items()}, metadata)
    return found


def assert_goes_on(tmp_path: Path, first: int, last: int, plan: CheckpointPlan = PLAN, **changes: Any) -> None:
    whole, _ = train(tmp_path / "whole", last, plan=plan, **changes)
    train(tmp_path / "parts", first, plan=plan, **changes)
    going_on, taken = train(tmp_path / "parts", last, plan=plan, **changes)
    assert taken == list(range(first + 1, whole.steps_done + 1))
    assert_same_run(whole, going_on)
    assert content(tmp_path / "parts", last) == content(tmp_path / "whole", last)


@pytest.mark.parametrize("first", range(1, 7))
def test_a_run_that_goes_on_equals_one_that_took_all_steps_bit_for_bit(tmp_path: Path, first: int) -> None:
    """Also its evaluations: the shorter run has one after its last step, which the longer one has not."""
    assert_goes_on(tmp_path, first, 7)


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.0},
        {"warmup_steps": 2},
        {"precision": "fp16"},
        {"evaluate_every": 0},
        {"stop_after": 1, "evaluate_every": 1},
        *({"mode": mode.value} for mode in TrainingMode),
    ],
    ids=str,
)
def test_whatever_is_trained_goes_on_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert_goes_on(tmp_path, 3, 5, **changes)


@pytest.mark.parametrize(
    "plan",
    [
        CheckpointPlan(every=0),
        CheckpointPlan(every=1, keep=2),
        CheckpointPlan(every=3, keep=1, steps=(1, 2)),
        CheckpointPlan(every=4, keep=2, steps=(3, 5)),
    ],
)
def test_checkpoints_on_the_way_are_what_they_would_have_been(tmp_path: Path, plan: CheckpointPlan) -> None:
    assert_goes_on(tmp_path, 4, 7, plan)


def test_an_interrupted_longer_run_serves_a_shorter_one_up_to_its_last_checkpoint(tmp_path: Path) -> None:
    """The shorter run evaluates after its last step, which is none of the longer run's evaluations."""
    whole, _ = train(tmp_path / "whole", 5)
    with pytest.raises(Stop):
        train(tmp_path / "parts", 9, stop_at(5))
    going_on, taken = train(tmp_path / "parts", 5)
    assert taken == []
    assert_same_run(whole, going_on)
    assert content(tmp_path / "parts", 5) == content(tmp_path / "whole", 5) | {
        name: some for name, some in content(tmp_path / "parts", 5).items() if name.startswith("step_000005")
    }


def test_a_run_goes_on_from_the_most_steps_there_are_and_never_from_more_than_its_own(tmp_path: Path) -> None:
    expected = {2: [1, 2], 4: [3, 4], 3: [1, 2, 3], 9: [5, 6, 7, 8, 9], 7: [1, 2, 3, 4, 5, 6, 7]}
    assert {steps: train(tmp_path, steps)[1] for steps in expected} == expected


def test_the_state_of_a_shorter_run_goes_when_a_longer_one_has_kept_its_own_and_concepts_stay(tmp_path: Path) -> None:
    train(tmp_path, 2)
    train(tmp_path / "elsewhere", 2)
    train(tmp_path, 4)
    left = [path for path in sorted(tmp_path.rglob("finished.*")) if path.suffix == ".resume"]
    assert left == [
        folder_of(tmp_path, 4).path / FINISHED_STATE,
        folder_of(tmp_path / "elsewhere", 2).path / FINISHED_STATE,
    ]
    assert folder_of(tmp_path, 2).finished() is not None


def test_an_own_state_wins_over_that_of_another_run_unless_it_is_older(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(tmp_path, 7, stop_at(3))
    train(tmp_path, 2)
    assert train(tmp_path, 7)[1] == [4, 5, 6, 7]
    with pytest.raises(Stop):
        train(tmp_path, 12, stop_at(8))
    train(tmp_path, 10)
    assert train(tmp_path, 12)[1] == [11, 12]


def test_nothing_of_other_runs_is_used_where_it_is_not_asked_for(tmp_path: Path) -> None:
    train(tmp_path, 3)
    for others in ({"path_key": "path"}, {"roots": (tmp_path,)}, {"path_key": "another", "roots": (tmp_path,)}):
        folder = TrainingFolder(tmp_path / "cat-000000000007", key_of(7), **others)
        assert folder.states(7) == [] and folder.latest_state(7) is None


def test_a_damaged_state_of_another_run_is_told_and_passed_over(tmp_path: Path) -> None:
    told: list[str] = []
    train(tmp_path, 2)
    train(tmp_path, 3)
    train(tmp_path, 2)  # the same again: its state is kept again
    path = folder_of(tmp_path, 3).path / FINISHED_STATE
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    _, taken = train(tmp_path, 5, told=told)
    assert taken == [3, 4, 5]
    assert told == [
        "finished.resume cannot be used: its content does not match its checksum, so it was changed after it was saved. "
        "Save the concept again, or get the file anew. Going back to the checkpoint before it."
    ]


def test_named_steps_that_a_shorter_run_has_not_kept_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    train(tmp_path, 4)
    train(tmp_path, 6, plan=CheckpointPlan(steps=(1, 2, 5)), told=told)
    assert told == [
        "The run goes on from step 4; the concepts of steps [1], named in checkpoint_steps, were not kept on the way there."
    ]
    assert list(folder_of(tmp_path, 6).checkpoints()) == [2, 5]


def test_a_best_concept_that_a_shorter_run_has_not_kept_is_told(tmp_path: Path) -> None:
    """Its evaluation after the last step was better, so that the one before was replaced; of seven steps none is as good."""
    told: list[str] = []
    given: dict[str, Any] = {"plan": CheckpointPlan(), "learning_rate": 0.2, "seed": 3, "ema_decay": 0.0}
    shorter, _ = train(tmp_path, 5, **given)
    longer, taken = train(tmp_path, 7, told=told, **given)
    loss = {entry["step"]: entry["loss"] for entry in shorter.evaluations + longer.evaluations}
    assert loss[5] < loss[4] < min(loss[step] for step in (2, 6, 7)) and taken == [6, 7]
    assert told == [
        f"The concept of step 4, the best so far, was not kept in {folder_of(tmp_path, 5).path}. Only a better one of a later "
        "step will be kept as best.safetensors."
    ]


def test_checkpoints_that_cannot_be_copied_do_not_cost_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    told: list[str] = []
    train(tmp_path, 4)
    monkeypatch.setattr(TrainingFolder, "save_step", full)
    whole, _ = train(tmp_path / "whole", 6)
    going_on, taken = train(tmp_path, 6, told=told)
    assert taken == [5, 6]
    assert_same_run(whole, going_on)
    assert told == [
        f"Checkpoints of {folder_of(tmp_path, 4).path} could not be copied: No space left on device. Training goes on."
    ]


def test_a_state_after_the_last_step_is_kept_while_a_run_is_pruned_and_goes_with_the_run(tmp_path: Path) -> None:
    train(tmp_path, 3)
    folder = folder_of(tmp_path, 3)
    folder.prune(1)
    folder.drop_states()
    assert (folder.path / FINISHED_STATE).is_file()
    folder.drop_states(keep_finished=False)
    assert not (folder.path / FINISHED_STATE).exists()
    train(tmp_path, 3)
    folder.clear()
    assert list(folder.path.iterdir()) == []


def test_a_finished_concept_that_was_lost_is_made_again_from_its_state(tmp_path: Path) -> None:
    whole, _ = train(tmp_path, 5)
    (folder_of(tmp_path, 5).path / "finished.safetensors").unlink()
    again, taken = train(tmp_path, 5)
    assert taken == []
    assert_same_run(whole, again)


def test_a_state_that_does_not_fit_on_the_disk_does_not_cost_the_finished_concept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    told: list[str] = []
    train(tmp_path, 2)
    training = run(schedule="constant", steps=3)
    run_training(training, quiet)
    folder = folder_of(tmp_path, 3, told)
    monkeypatch.setattr("comfyui_dci.dci_core.training.folder.save_state", full)
    assert folder.finish(concept_of(training), state_of(training)) == []
    assert folder.finished() is not None
    assert (folder_of(tmp_path, 2).path / FINISHED_STATE).is_file()  # nothing has taken its place
    assert told == [
        f"The state of the finished run could not be written to {folder.path}: No space left on device. A run with more "
        "steps would begin anew."
    ]


def test_states_on_the_disk_are_in_full_precision(tmp_path: Path) -> None:
    train(tmp_path, 3)
    tensors, _ = read_tensors(folder_of(tmp_path, 3).path / FINISHED_STATE)
    training = run(schedule="constant", steps=3)
    assert all(tensors[f"parameter/{n}"].dtype == v.dtype for n, v in training.parameters().items())
    assert {value.dtype for name, value in tensors.items() if name.startswith("optimizer/")} <= {
        torch.float32,
        torch.float64,
    }
