"""Checkpoints: an interrupted and resumed run equals an uninterrupted one bit for bit, and nothing reached is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.tensor_file import read_tensors
from comfyui_dci.dci_core.training.concept_training import ConceptTraining
from comfyui_dci.dci_core.training.folder import FINISHED, TrainingFolder
from comfyui_dci.dci_core.training.run import CheckpointPlan, best_evaluation, run_training
from comfyui_dci.dci_core.training.state import TrainingState, load_state, restore_state, save_state, state_of
from toy_training import changed, copies, toy, toy_settings, trained

KEY = "k" * 64
EVERYTHING: dict[str, Any] = {
    "steps": 7,
    "schedule": "cosine",
    "warmup_steps": 2,
    "accumulation_steps": 2,
    "max_gradient_norm": 0.1,
    "min_snr_gamma": 5.0,
    "noise_offset": 0.1,
    "ema_decay": 0.9,
    "prior_loss_weight": 0.5,
    "evaluate_every": 2,
}


class Stop(BaseException):
    """What a cancelled run raises."""


def run(**changes: Any) -> ConceptTraining:
    return toy(toy_settings(**{**EVERYTHING, **changes}), images=5, class_images=3, pooled=True)


def concept_of(training: ConceptTraining) -> Concept:
    info = ConceptInfo(
        "sd1", "cat", "V*", 1, 1, 2, training.steps_done, 5, "", training_key=KEY, history={"loss": training.losses}
    )
    with training.result():
        deltas = {f"diffusion_model.middle.{name}": value for name, value in training.key_value_deltas().items()}
        tokens = {name: value.detach().float().clone() for name, value in training.tokens.items()}
    return Concept(deltas, tokens, info)


def stop_at(step: int) -> Callable[[int, float], None]:
    def on_step(number: int, loss: float) -> None:
        if number == step:
            raise Stop

    return on_step


def quiet(number: int, loss: float) -> None:
    pass


def train(
    folder: TrainingFolder,
    on_step: Callable[[int, float], None] = quiet,
    plan: CheckpointPlan | None = None,
    **changes: Any,
) -> ConceptTraining:
    training = run(**changes)
    run_training(training, on_step, folder, plan or CheckpointPlan(every=2), concept_of)
    return training


def assert_same_run(one: ConceptTraining, other: ConceptTraining) -> None:
    assert one.losses == other.losses and one.evaluations == other.evaluations
    assert (one.start, one.end) == (other.start, other.end)
    assert changed(copies(trained(one)), trained(other)) == set()
    with one.result(), other.result():
        assert changed(copies(trained(one)), trained(other)) == set()


@pytest.fixture
def folder(tmp_path: Path) -> TrainingFolder:
    return TrainingFolder(tmp_path / "run", KEY)


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
    training.evaluation_loss = lambda: calls.append(1) or works()  # type: ignore[method-assign]
    run_training(training, quiet)
    assert training.start is not None and training.end is not None
    assert len(calls) == asked  # every 2: at the start, after 2, 4, 6 and 7
    assert not evaluate_every or training.end["loss"] == training.evaluations[-1]["loss"]


@pytest.mark.parametrize("mode", ["custom_diffusion", "textual_inversion", "key_value", "cross_attention"])
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
    works, calls = getattr(broken, part), []

    class Breaks:
        key_values = broken.denoiser.key_values
        key_value_deltas = broken.denoiser.key_value_deltas

        def __call__(self, *given: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                raise Stop
            return works(*given)

    setattr(broken, part, Breaks())
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

    broken.evaluation_loss = stop  # type: ignore[method-assign]
    with pytest.raises(Stop):
        run_training(broken, quiet, folder, CheckpointPlan(), concept_of)
    assert broken.steps_done == 2
    assert_same_run(whole, train(folder))


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
    """Leave what a killed process leaves: a state whose concept was never written, and half a file."""
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / "step_000001.resume").write_bytes(b"state")
    (folder.path / ".step_000001-0a1b.tmp").write_bytes(b"half")


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


def test_a_finished_run_keeps_concepts_and_no_states(folder: TrainingFolder) -> None:
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
    for name, delta in expected.key_value_deltas.items():
        assert torch.equal(kept.key_value_deltas[name], delta.half().float()) and delta.any()


def test_the_finished_concept_is_exact_and_of_its_key_only(folder: TrainingFolder) -> None:
    concept = concept_of(train(folder))
    folder.finish(concept)
    read = folder.finished()
    assert read is not None and read.info == concept.info
    assert all(torch.equal(read.key_value_deltas[name], delta) for name, delta in concept.key_value_deltas.items())
    assert TrainingFolder(folder.path, "other").finished() is None
    (folder.path / "finished.safetensors").write_bytes(b"half")
    assert folder.finished() is None


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
    assert "No checkpoint after step 2: [Errno 28] No space left on device. Training goes on." in caplog.text
    assert list(folder.path.iterdir()) == []


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


def test_files_that_were_read_can_be_deleted_and_replaced_on_any_system(folder: TrainingFolder) -> None:
    """On Windows a file cannot be deleted while its tensors are views into it."""
    folder.finish(concept_of(train(folder)))
    tensors, _ = read_tensors(folder.path / FINISHED)
    (folder.path / FINISHED).write_bytes(
        b"\xff" * (folder.path / FINISHED).stat().st_size
    )  # in place: a view would change
    assert all(tensor.isfinite().all() for tensor in tensors.values())


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
        assert {name.split("/")[0] for name in file.keys()} == {"parameter", "optimizer", "average", "generator"}  # noqa: SIM118
        values = json.loads(file.metadata()["values"])
    assert values["losses"] == training.losses and set(values["decks"]) == {"references", "regularization"}


def test_starting_anew_deletes_what_a_run_left(folder: TrainingFolder) -> None:
    folder.finish(concept_of(train(folder)))
    leave_behind(folder)
    (folder.path / "notes.txt").write_text("mine")
    folder.clear()
    assert [file.name for file in folder.path.iterdir()] == ["notes.txt"]


def test_the_best_evaluated_concept_is_kept_and_marked(folder: TrainingFolder) -> None:
    training = run(steps=6)
    losses = iter([4.0, 3.0, 1.0, 2.0])  # the first one before the first step
    training.evaluation_loss = lambda: next(losses)  # type: ignore[method-assign]
    run_training(training, quiet, folder, CheckpointPlan(), concept_of)
    best = best_evaluation(training)
    assert best is not None and best["step"] == 4.0
    assert set(best) == {"step", "loss", "loss_without_contexts", "drift"}
    assert load_concept(folder.path / "best.safetensors").info.steps == 4


@pytest.mark.parametrize("stop_after, expected", [(0, 14), (1, 6), (2, 8), (3, 14)])
def test_a_run_stops_early_after_evaluations_without_improvement(stop_after: int, expected: int) -> None:
    training = run(steps=14, stop_after=stop_after)
    losses = iter([4.0, 3.0, 2.0, 2.5, 2.0, 1.0, 1.5, 1.25])  # the first one before the first step
    training.evaluation_loss = lambda: next(losses)  # type: ignore[method-assign]
    assert len(run_training(training, quiet)) == expected


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
