"""More steps go on from a finished run of the same inputs, to the same bits; where they cannot, the run says so before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core import files
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.run import CheckpointPlan, KeepState
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training import description
from comfyui_dci.nodes.host.training.description import keys_of
from comfyui_dci.nodes.host.training.inputs import TrainingInputs
from comfyui_dci.nodes.host.training.observer import TrainingObserver
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from other_settings import OTHER_SETTINGS
from training_runs import inputs, settings

from workbench.tiny import Tiny, tiny

pytestmark = pytest.mark.sweep


class Listener(TrainingObserver):
    """Keep what a run tells, and which steps it takes."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.announced: list[str] = []
        self.warned: list[str] = []
        self.before_the_first_step: list[str] = []

    def on_step(self, step: int, loss: float) -> None:
        if not self.steps:
            self.before_the_first_step = [*self.announced, *self.warned]
        self.steps.append(step)

    def announce(self, text: str) -> None:
        self.announced.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture(scope="module")
def base() -> Tiny:
    return tiny("mini")


def train(
    base: Tiny,
    root: Path,
    steps: int,
    keep_state: KeepState = KeepState.UP_TO_1_GB,
    reuse: bool = True,
    given: TrainingInputs | None = None,
    **changes: Any,
) -> tuple[Concept, Listener]:
    listener = Listener()
    plan = CheckpointPlan(every=2, keep_state=keep_state)
    with torch.inference_mode():
        concept, _ = train_concept(
            HostModel(*base),
            given or inputs(),
            settings(steps=steps, evaluate_every=2, **changes),
            Storage(root, plan, reuse),
            observer=listener,
        )
    return concept, listener


def folder_of(root: Path, steps: int) -> Path:
    (path,) = [file.parent for file in root.glob("*/finished.safetensors") if load_concept(file).info.steps == steps]
    return path


def name_of(root: Path, steps: int) -> str:
    return f"{root.name}/{folder_of(root, steps).name}"


def assert_same(one: Concept, other: Concept) -> None:
    assert one.info == other.info
    both: list[tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]] = [
        (one.deltas, other.deltas),
        (one.tokens, other.tokens),
        (one.contexts or {}, other.contexts or {}),
    ]
    for ours, theirs in both:
        assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema_decay": 0.9, "max_gradient_norm": 0.1},
        {"optimizer": "adamw_8bit"},
        {"precision": "fp16"},
        {"rank": 2, "mode": "cross_attention"},
        {"given": replace(inputs(regularized=True), keep_contexts=True)},
        {"flip": False, "warmup_steps": 2},
    ],
    ids=str,
)
def test_three_and_two_steps_are_five_bit_for_bit(base: Tiny, tmp_path: Path, changes: dict[str, Any]) -> None:
    whole, alone = train(base, tmp_path / "whole", 5, **changes)
    assert alone.steps == [1, 2, 3, 4, 5] and alone.announced == []
    train(base, tmp_path / "training", 3, **changes)
    going_on, more = train(base, tmp_path / "training", 5, **changes)
    assert more.steps == [4, 5]
    assert more.before_the_first_step == [f"Going on from step 3 of {name_of(tmp_path / 'training', 3)}."]
    assert_same(going_on, whole)
    one, other = folder_of(tmp_path / "whole", 5), folder_of(tmp_path / "training", 5)
    names = {file.name for file in one.iterdir()}
    assert names == {file.name for file in other.iterdir()} >= {"best.safetensors", "step_000002.safetensors"}
    for name in (name for name in names if name.endswith(".safetensors")):
        assert_same(load_concept(other / name), load_concept(one / name))


def test_the_shorter_runs_concept_stays_and_its_state_goes_with_a_word(base: Tiny, tmp_path: Path) -> None:
    root = tmp_path / "training"
    first, _ = train(base, root, 3)
    _, more = train(base, root, 5)
    assert more.announced[1:] == [
        f"The state of {name_of(root, 3)} was deleted, as this run's takes its place; its concepts stay."
    ]
    assert [path.parent for path in root.glob("*/finished.resume")] == [folder_of(root, 5)]
    again, listener = train(base, root, 3)
    assert listener.steps == []
    assert_same(again, first)


def test_an_interrupted_run_says_where_it_goes_on(base: Tiny, tmp_path: Path) -> None:
    class Cancels(Listener):
        def on_step(self, step: int, loss: float) -> None:
            if step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), torch.inference_mode():
        train_concept(
            HostModel(*base), inputs(), settings(steps=5, evaluate_every=2), Storage(tmp_path), observer=Cancels()
        )
    _, listener = train(base, tmp_path, 5)
    assert listener.steps == [4, 5] and listener.announced == ["Going on from step 3, where it was interrupted."]


def test_without_reuse_nothing_of_another_run_is_used_or_deleted(base: Tiny, tmp_path: Path) -> None:
    train(base, tmp_path, 3)
    _, listener = train(base, tmp_path, 5, reuse=False)
    assert listener.steps == [1, 2, 3, 4, 5] and listener.announced == []
    assert len(list(tmp_path.glob("*/finished.resume"))) == 2


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        ({"learning_rate": 2e-3, "seed": 6}, {}, "3 steps of these images, but with another seed, learning_rate."),
        (
            {"schedule": "cosine"},
            {"schedule": "cosine"},
            "but with schedule cosine every number of steps is a run of its own.",
        ),
        ({"schedule": "cosine"}, {}, "but with another schedule."),
        (
            {"keep_state": KeepState.NEVER},
            {},
            "no state to go on from (keep_state, or a longer run has taken its place).",
        ),
        ({"given": replace(inputs(), class_noun="dog")}, {}, "but with another class_noun."),
        ({"given": replace(inputs(), placeholder="my*")}, {}, "but with another placeholder."),
        ({"scheme": ICOScheme(2, 1, 3)}, {}, "but with another contexts_before."),
        (
            {"given": replace(inputs(), captions=["on grass", "", ""])},
            {"given": replace(inputs(), captions=["", "", "in snow"])},
            "but its captions, or the weights of model, CLIP or VAE, differ.",
        ),
    ],
    ids=str,
)
def test_a_run_that_cannot_go_on_says_why_before_it_starts(
    base: Tiny, tmp_path: Path, first: dict[str, Any], then: dict[str, Any], reason: str
) -> None:
    root = tmp_path / "training"
    train(base, root, 3, **first)
    _, listener = train(base, root, 5, **then)
    assert listener.steps == [1, 2, 3, 4, 5]
    (said,) = listener.before_the_first_step
    assert said.startswith(f"Begins at step 1: {name_of(root, 3)} has 3 steps of these images, ") and said.endswith(
        reason
    )


@pytest.mark.parametrize("steps", [3, 4])
def test_fewer_steps_begin_anew_and_the_checkpoint_of_that_step_is_named(
    base: Tiny, tmp_path: Path, steps: int
) -> None:
    root = tmp_path / "training"
    train(base, root, 5)
    longer = name_of(root, 5)
    _, listener = train(base, root, steps)
    assert listener.steps == list(range(1, steps + 1))
    hint = f"; its concept of that step is {longer}/step_000004.safetensors" if steps == 4 else ""
    assert listener.before_the_first_step == [
        f"Begins at step 1: {longer} has 5 steps of these images, but a run cannot go back to {steps}{hint}."
    ]


def test_other_images_are_not_spoken_of(base: Tiny, tmp_path: Path) -> None:
    train(base, tmp_path, 3, given=replace(inputs(), images=inputs().images[:2]))
    assert train(base, tmp_path, 5)[1].announced == []


def test_a_large_state_is_not_kept_and_the_run_says_so_before_it_starts(
    base: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfyui_dci.dci_core.training.run.LARGE_STATE", 1000)
    _, listener = train(base, tmp_path, 3)
    (said,) = listener.before_the_first_step
    assert said.startswith("The state after the last step will not be kept, as it takes ") and said.endswith(
        " MB: to be able to go on with more steps later, set keep_state to always before the run ends."
    )
    assert not list(tmp_path.glob("*/*.resume"))
    assert "it holds no state" in train(base, tmp_path, 5, keep_state=KeepState.ALWAYS)[1].announced[0]
    assert len(list(tmp_path.glob("*/finished.resume"))) == 1


@pytest.mark.parametrize("keep_state", list(KeepState))
def test_a_returned_concept_keeps_its_state_unless_none_is_wanted(
    base: Tiny, tmp_path: Path, keep_state: KeepState
) -> None:
    train(base, tmp_path, 3)
    train(base, tmp_path, 3, keep_state=keep_state)
    assert len(list(tmp_path.glob("*/*.resume"))) == (keep_state is not KeepState.NEVER)


def test_a_run_that_does_not_fit_on_the_disk_is_refused_or_warned_of_before_it_starts(
    base: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished, _ = train(base, tmp_path / "elsewhere", 3)
    size = (folder_of(tmp_path / "elsewhere", 3) / "finished.safetensors").stat().st_size
    monkeypatch.setattr(files, "free_bytes", lambda folder: size // 2)
    with pytest.raises(UserInputError, match="The finished concept of this training may need .* but .* are free"):
        train(base, tmp_path, 3)
    monkeypatch.setattr(files, "free_bytes", lambda folder: 2 * size)
    concept, listener = train(base, tmp_path, 3)
    (said,) = listener.before_the_first_step
    assert said.startswith("Checkpoints and states of this training may need ")
    assert said.endswith("Free space there first. Training goes on without those that do not fit.")
    assert_same(concept, finished)


def test_a_folder_that_cannot_be_made_is_found_before_images_are_encoded(
    base: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_run(*given: Any) -> None:
        raise AssertionError("prepared although nothing can be written")

    monkeypatch.setattr("comfyui_dci.nodes.host.training.trainer.prepare_training", must_not_run)
    (tmp_path / "training").write_text("a file where the folder should be")
    with pytest.raises(UserInputError, match="This training cannot be written to"):
        train(base, tmp_path / "training", 3)


def test_every_warning_of_a_run_reaches_the_observer(
    base: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("comfyui_dci.dci_core.tensor_file.save_file", full)
    _, listener = train(base, tmp_path, 3)
    full_folder = f"could not be written to {next(iter(tmp_path.iterdir()))}: No space left on device."
    assert listener.warned == [
        f"The best concept {full_folder} Training goes on.",
        f"The checkpoint of step 2 {full_folder} Training goes on.",
        f"The finished concept {full_folder} Save it elsewhere now.",
    ]


def test_the_key_of_all_lengths_leaves_out_the_number_of_steps_and_nothing_else(
    base: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description, "model_facts", lambda *given: {})  # they do not change here, and take long

    def path_key(**changes: Any) -> str:
        return keys_of(HostModel(*base), inputs(), settings(**{"evaluate_every": 2, **changes})).path

    usual = path_key()
    assert usual and path_key(steps=4) == path_key(gradient_checkpointing=True) == usual
    assert path_key(schedule="cosine") == path_key(schedule="linear") == ""
    shaping = set(OTHER_SETTINGS) - {"steps", "gradient_checkpointing", "schedule"}
    assert len({usual} | {path_key(**{name: OTHER_SETTINGS[name]}) for name in shaping}) == 1 + len(shaping)
