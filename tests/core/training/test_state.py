"""Checkpoints: an interrupted and resumed run equals an uninterrupted one bit for bit, and nothing reached is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.folder import TrainingFolder
from comfyui_dci.dci_core.training.run import CheckpointPlan, run_training
from comfyui_dci.dci_core.training.settings import TrainingMode
from comfyui_dci.dci_core.training.state import TrainingState, load_state, restore_state, save_state, state_of
from stored_runs import EVERYTHING, KEY, Stop, assert_same_run, concept_of, quiet, run, stop_at, train
from toy_training import changed, copies, toy, toy_settings, trained


@pytest.mark.parametrize("stopped_after", range(1, 7))
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(folder: TrainingFolder, stopped_after: int) -> None:
    whole = run()
    run_training(whole, quiet)
    with pytest.raises(Stop):
        train(folder, stop_at(stopped_after))
    steps: list[int] = []
    resumed = train(folder, lambda number, loss: steps.append(number))
    assert steps == list(range(stopped_after + 1, 8))
    assert_same_run(whole, resumed)


@pytest.mark.parametrize("stopped_after", [1, 4])
def test_a_resumed_run_knows_what_was_measured_at_its_start(folder: TrainingFolder, stopped_after: int) -> None:
    whole = run()
    expected = whole.measured()
    run_training(whole, quiet)
    with pytest.raises(Stop):
        train(folder, stop_at(stopped_after))
    resumed = train(folder)
    assert whole.start == resumed.start == expected and set(expected) == {"loss", "loss_without_contexts"}
    assert whole.end == resumed.end == resumed.measured() != expected


def test_a_state_of_an_older_version_resumes_and_its_start_is_measured_before(folder: TrainingFolder) -> None:
    whole = run()
    run_training(whole, quiet)
    with pytest.raises(Stop):
        train(folder, stop_at(3))
    (path,) = folder.path.glob("step_000003.resume")
    values = dict(load_state(path, KEY).values)
    del values["start"]
    values["evaluations"] = [{"step": e["step"], "loss": e["loss"], "drift": e["drift"]} for e in values["evaluations"]]
    save_state(TrainingState(load_state(path, KEY).tensors, values), path, KEY)
    resumed = train(folder)
    assert (resumed.start, resumed.end, resumed.losses) == (whole.start, whole.end, whole.losses)
    assert [set(entry) - {"step", "loss", "drift"} for entry in resumed.evaluations[:2]] == [
        set(),
        {"loss_without_contexts"},
    ]


@pytest.mark.parametrize("evaluate_every, asked", [(0, 2), (7, 2), (2, 5)])
def test_start_and_end_are_measured_once_each(evaluate_every: int, asked: int) -> None:
    training, calls = run(evaluate_every=evaluate_every), []
    works = training.evaluation_loss
    training.evaluation_loss = lambda: calls.append(1) or works()
    run_training(training, quiet)
    assert training.start is not None and training.end is not None
    assert len(calls) == asked  # every 2: at the start, after 2, 4, 6 and 7
    assert not evaluate_every or training.end["loss"] == training.evaluations[-1]["loss"]


@pytest.mark.parametrize("mode", [mode.value for mode in TrainingMode])
def test_every_mode_resumes_bit_for_bit(folder: TrainingFolder, mode: str) -> None:
    whole = train(TrainingFolder(folder.path / "whole", KEY), mode=mode)
    with pytest.raises(Stop):
        train(folder, stop_at(3), mode=mode)
    assert_same_run(whole, train(folder, mode=mode))


# in the second half of step 3: 16 calls for what is measured at the start, 2 for each step, 16 of both and 8 for the drift
# (of the denoiser alone) for the evaluation after step 2
@pytest.mark.parametrize("part, call", [("denoiser", 16 + 4 + 24 + 2), ("encoder", 16 + 4 + 16 + 2)])
def test_a_run_stopped_in_the_middle_of_a_step_goes_on_before_that_step(
    folder: TrainingFolder, part: str, call: int
) -> None:
    """Random numbers are drawn before the network is asked; they must be drawn again."""
    whole = run()
    run_training(whole, quiet)
    broken = run()
    works, calls = getattr(broken.model, part), []

    class Breaks:
        projections = broken.model.denoiser.projections
        deltas = broken.model.denoiser.deltas

        def __call__(self, *given: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                raise Stop
            return works(*given)

    broken.model = replace(broken.model, **{part: Breaks()})
    with pytest.raises(Stop):
        run_training(broken, quiet, folder, CheckpointPlan(), concept_of)
    assert broken.steps_done == 2
    assert_same_run(whole, train(folder))


def test_a_run_stopped_while_it_is_evaluated_evaluates_when_it_goes_on(folder: TrainingFolder) -> None:
    whole, broken = run(), run()
    run_training(whole, quiet)

    answers = iter([broken.evaluation_loss()])  # at the start, and no more

    def stop(*given: Any) -> float:
        for answer in answers:
            return answer
        raise Stop

    broken.evaluation_loss = stop
    with pytest.raises(Stop):
        run_training(broken, quiet, folder, CheckpointPlan(), concept_of)
    assert broken.steps_done == 2
    assert_same_run(whole, train(folder))


@pytest.mark.parametrize("damage", [b"", b"half a file", None])
def test_a_damaged_state_is_passed_over_for_the_one_before(folder: TrainingFolder, damage: bytes | None) -> None:
    whole = run()
    run_training(whole, quiet)
    with pytest.raises(Stop):
        train(folder, stop_at(5))
    newest = folder.path / "step_000005.resume"
    newest.write_bytes(newest.read_bytes()[:-4] + b"abcd" if damage is None else damage)
    steps: list[int] = []
    assert_same_run(whole, train(folder, lambda number, loss: steps.append(number)))
    assert steps[0] == 5


def test_a_diverging_run_keeps_the_checkpoint_before_and_names_the_step(folder: TrainingFolder) -> None:
    training = run()

    def spoil(number: int, loss: float) -> None:
        if number == 5:
            training.references.latents[:] = float("nan")

    with pytest.raises(UserInputError, match="became nan at step 6 of 7; the checkpoints before it are kept"):
        run_training(training, spoil, folder, CheckpointPlan(every=2), concept_of)
    assert list(folder.checkpoints()) == [2, 4]
    assert folder.latest_state() is not None


@pytest.mark.parametrize("error", [UserInputError("a wrong input, noticed late"), Stop()])
def test_whatever_else_ends_a_run_keeps_its_last_step(folder: TrainingFolder, error: BaseException) -> None:
    def stop(number: int, loss: float) -> None:
        if number == 3:
            raise error

    with pytest.raises(type(error)):
        run_training(run(), stop, folder, CheckpointPlan(), concept_of)
    assert list(folder.checkpoints()) == [3] and folder.latest_state() is not None


def test_named_steps_that_lie_before_the_point_of_resuming_are_told(
    folder: TrainingFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Stop):
        run_training(run(), stop_at(4), folder, CheckpointPlan(every=2, keep=1), concept_of)
    assert folder.missing((1, 2, 4, 6), 4) == [1, 2]
    run_training(run(), quiet, folder, CheckpointPlan(steps=(1, 2, 4, 6)), concept_of)
    assert "goes on from step 4; the concepts of steps [1, 2], named in checkpoint_steps, were not kept" in caplog.text


def test_a_state_of_other_inputs_is_refused(tmp_path: Path) -> None:
    training = run()
    training.step()
    path = tmp_path / "step.resume"
    save_state(state_of(training), path, KEY)
    with pytest.raises(UserInputError, match="belongs to a run with other images or settings"):
        load_state(path, "another key")
    restore_state(run(), load_state(path, KEY))
    fewer = toy(toy_settings(**EVERYTHING), images=4, class_images=3, pooled=True)
    before = copies(trained(fewer))
    with pytest.raises(UserInputError, match="trained other tensors"):
        restore_state(fewer, load_state(path, KEY))
    assert changed(before, trained(fewer)) == set()


def test_a_state_file_is_tensors_and_json(tmp_path: Path) -> None:
    from safetensors import safe_open

    training = run()
    training.step()
    save_state(state_of(training), tmp_path / "step.resume", KEY)
    with safe_open(str(tmp_path / "step.resume"), framework="pt") as file:
        assert {name.split("/")[0] for name in file.keys()} == {"parameter", "optimizer", "average", "generator"}  # noqa: SIM118 (the file is no mapping)
        values = json.loads(file.metadata()["values"])
    assert values["losses"] == training.losses and set(values["decks"]) == {"references", "regularization"}


@pytest.mark.parametrize("stop_after, expected", [(0, 14), (1, 6), (2, 8), (3, 14)])
def test_a_run_stops_early_after_evaluations_without_improvement(stop_after: int, expected: int) -> None:
    training = run(steps=14, stop_after=stop_after)
    losses = iter([4.0, 3.0, 2.0, 2.5, 2.0, 1.0, 1.5, 1.25])  # the first one before the first step
    training.evaluation_loss = lambda: next(losses)
    assert len(run_training(training, quiet)) == expected
