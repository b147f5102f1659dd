"""Run a training to its end: checkpoints, evaluations, early stop. Nothing that was reached is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from safetensors import SafetensorError

from ..concept.concept import Concept
from ..concept.file import written_size
from ..errors import DivergenceError, UserInputError
from ..files import free_bytes, megabytes, reason_of
from ..setting import check_settings, setting
from .concept_training import ConceptTraining
from .folder import BEST, STATES_KEPT, TrainingFolder
from .state import expected_size, restore_state, state_of

LARGE_STATE = 1_000_000_000
HEADS = 1_000_000
"""Bytes on the disk beside the tensors of a checkpoint and a finished concept: heads of files, and what rounding up to blocks takes."""


class KeepState(str, Enum):
    """Whether a finished run keeps the state after its last step, from which a run with more steps goes on."""

    UP_TO_1_GB = "up to 1 GB"
    ALWAYS = "always"
    NEVER = "never"

    def allows(self, size: int) -> bool:
        """Whether a state of so many bytes is kept."""
        return self is KeepState.ALWAYS or (self is KeepState.UP_TO_1_GB and size <= LARGE_STATE)


@dataclass(frozen=True)
class CheckpointPlan:
    """When checkpoints are written; none of it changes what is learned.

    Raises:
        UserInputError: a value is outside its range.
    """

    every: int = field(
        default=0,
        metadata=setting(
            "Steps between checkpoints in models/dci_concepts/training. Each is a concept, and an interrupted run goes on "
            "from the newest. Early ones obey prompts (for use without DCI), late ones are faithful (for DCI).",
            "0 writes one only when the run is cancelled.",
            allowed=(0, 100_000),
            name="checkpoint_every",
        ),
    )
    keep: int = field(
        default=2,
        metadata=setting("How many of the newest checkpoints are kept.", allowed=(1, 1000), name="checkpoints_kept"),
    )
    steps: tuple[int, ...] = field(
        default=(),
        metadata=setting(
            'Further steps whose concept is always kept, such as "50, 200, 350".', name="checkpoint_steps"
        ),
    )
    keep_state: KeepState = field(
        default=KeepState.UP_TO_1_GB,
        metadata=setting(
            "Whether a finished run keeps what it needs to go on (finished.resume, about 0.2 GB for SD1.x, 4 GB for SDXL): the same "
            "inputs with more steps then train the further steps only. Needs schedule constant. up to 1 GB: unless it is larger. "
            "It may be changed at any time."
        ),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if any(step < 1 for step in self.steps):
            raise UserInputError(f"checkpoint_steps must be steps from 1 on, but got {list(self.steps)}.")

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after a step."""
        return step in self.steps or bool(self.every and step % self.every == 0)

    def lasting(self, steps: int) -> list[int]:
        """Return the steps whose concepts a run of so many steps leaves behind, ascending."""
        due = [step for step in range(1, steps + 1) if self.is_due(step)]
        return sorted({*due[-self.keep :], *(step for step in due if step in self.steps)})

    def keeps_state(self, training: ConceptTraining) -> bool:
        """Whether the state after the last step of a run is kept: never where no run with more steps could go on from it."""
        return training.settings.goes_on and self.keep_state.allows(expected_size(training))

    def room(self, training: ConceptTraining, concept: int) -> int:
        """Return how many bytes a run may have on the disk at its fullest, about.

        Args:
            training: the run.
            concept: bytes of its concept in float32; checkpoints take half of it.
        """
        on_the_way = len(self.lasting(training.settings.steps))
        states = min(on_the_way, STATES_KEPT + 1) + self.keeps_state(training)
        halves = on_the_way + bool(on_the_way) + bool(training.settings.evaluate_every)
        return states * expected_size(training) + concept + halves * concept // 2


def run_training(
    training: ConceptTraining,
    on_step: Callable[[int, float], None],
    folder: TrainingFolder | None = None,
    plan: CheckpointPlan | None = None,
    make_concept: Callable[[ConceptTraining], Concept] | None = None,
) -> list[float]:
    """Run all steps and return their losses; with a folder, go on from the first of its ``states``.

    Steps that another run has taken are not taken again; the folder then holds what it would hold if they had been taken here.

    Whatever interrupts the run, its folder then holds the last step that was completed, unless the run diverged:
    then it holds the last checkpoint before. What is written on the way leaves room for the finished concept.

    Args:
        training: a run at its start.
        on_step: called after each step with its 1-based number and loss; whatever it raises ends the run.
        folder: where checkpoints are written; None writes none.
        plan: when.
        make_concept: makes the concept of the steps so far; needed with a folder.
    """
    keeper = None
    if folder is not None and make_concept is not None:
        keeper = _Keeper(training, folder, plan or CheckpointPlan(), make_concept)
        keeper.resume()
    if training.start is None:
        training.start = training.measured()
    try:
        if training.steps_done:  # it may have been interrupted between step and evaluation
            _evaluate(training)
            if keeper is not None:
                keeper.after_step()
        while training.steps_done < training.settings.steps and not _should_stop(training):
            loss = training.step()
            _evaluate(training)
            if keeper is not None:
                keeper.after_step()
            on_step(training.steps_done, loss)
        training.end = _last_measured(training)
    except DivergenceError:
        raise
    except BaseException:
        if keeper is not None:
            keeper.save_now()
        raise
    return training.losses


def best_evaluation(training: ConceptTraining) -> dict[str, float] | None:
    """Return the evaluation with the lowest loss, the earliest of equals; None without any."""
    return min(training.evaluations, key=lambda entry: entry["loss"], default=None)


class _Keeper:
    def __init__(
        self,
        training: ConceptTraining,
        folder: TrainingFolder,
        plan: CheckpointPlan,
        make_concept: Callable[[ConceptTraining], Concept],
    ) -> None:
        self._training = training
        self._folder = folder
        self._plan = plan
        self._make_concept = make_concept
        self._saved = 0

    def resume(self) -> None:
        found = self._folder.latest_state(self._training.settings.steps)
        if found is None:
            return
        stored, state = found
        if state.values.get("start") is None:  # written by an older version; afterwards it would be too late
            self._training.start = self._training.measured()
        restore_state(self._training, state)
        reached = self._training.steps_done
        if stored.path.parent == self._folder.path:
            self._saved = reached
        else:
            self._take_over(TrainingFolder(stored.path.parent, "", warn=self._folder.warn))
        missing = self._folder.missing(self._plan.steps, reached)
        if missing:
            self._folder.warn(
                f"The run goes on from step {reached}; the concepts of steps {missing}, named in checkpoint_steps, were not kept on the "
                "way there."
            )

    def _take_over(self, other: TrainingFolder) -> None:
        """Write what this run would have written by now, from what another run on its way has kept."""
        reached, best = self._training.steps_done, best_evaluation(self._training)
        info = self._make_concept(self._training).info

        def concept_of(step: int) -> Concept | None:
            there = other.concept_of(step)
            if there is None:
                return None
            return replace(there, info=replace(info, steps=step, history=there.info.history))

        try:
            for step in self._folder.missing(self._plan.lasting(self._training.settings.steps), reached):
                concept = concept_of(step)
                if concept is not None and self._leaves_room(f"checkpoint after step {step}", concept):
                    self._folder.save_step(concept)
            if best is not None and best["step"] < reached:
                concept = concept_of(int(best["step"]))
                if concept is None:  # the evaluation after its last step, which this run has not, was better
                    self._folder.warn(
                        f"The concept of step {best['step']:g}, the best so far, was not kept in {other.path}. Only a better one of a "
                        f"later step will be kept as {BEST}."
                    )
                elif self._leaves_room(f"{BEST} after step {best['step']:g}", concept):
                    self._folder.save_best(concept)
        except (OSError, SafetensorError) as error:
            self._folder.warn(f"Checkpoints of {other.path} could not be copied: {reason_of(error)}. Training goes on.")

    def after_step(self) -> None:
        step, best = self._training.steps_done, best_evaluation(self._training)
        if best is not None and best["step"] == step:
            self._save_best()
        if self._plan.is_due(step):
            self.save_now(on_the_way=True)

    def _leaves_room(self, what: str, concept: Concept, more: int = 0) -> bool:
        """Whether the finished concept still fits on the disk after a concept on the way and so many bytes more; warn where not."""
        free = free_bytes(self._folder.path)
        needed = written_size(concept) + more + written_size(concept, "float32") + HEADS
        if free is None or free >= needed:
            return True
        self._folder.warn(
            f"No {what}: {megabytes(free)} are free in {self._folder.path}, and room is kept for the finished concept. "
            "Training goes on."
        )
        return False

    def _save_best(self) -> None:
        concept = self._make_concept(self._training)
        try:
            if self._leaves_room(f"{BEST} after step {concept.info.steps}", concept, -self._folder.size_of_best()):
                self._folder.save_best(concept)
        except (OSError, SafetensorError) as error:
            self._folder.warn(
                f"The best concept could not be written to {self._folder.path}: {reason_of(error)}. Training goes on."
            )

    def save_now(self, on_the_way: bool = False) -> None:
        """Write a checkpoint of the steps so far; on the way only where it leaves room for the finished concept."""
        step = self._training.steps_done
        if step == self._saved:
            return
        concept = self._make_concept(self._training)
        if on_the_way and not self._leaves_room(
            f"checkpoint after step {step}", concept, expected_size(self._training)
        ):
            return
        try:
            self._folder.save_checkpoint(concept, state_of(self._training))
            self._folder.prune(self._plan.keep, self._plan.steps)
        except (OSError, SafetensorError) as error:
            self._folder.warn(
                f"The checkpoint of step {step} could not be written to {self._folder.path}: {reason_of(error)}. "
                "Training goes on."
            )
        self._saved = step


def _evaluate(training: ConceptTraining) -> None:
    """Evaluate when it is time."""
    step = training.steps_done
    done = bool(training.evaluations) and training.evaluations[-1]["step"] == step
    if done or not training.settings.is_evaluated(step):
        return
    entry = {"step": float(step), **training.measured()}
    drift = training.drift_loss()
    training.evaluations.append(entry if drift is None else {**entry, "drift": drift})


def _last_measured(training: ConceptTraining) -> dict[str, float]:
    """Return what is measured after the last step, from the evaluation there if there was one."""
    last = training.evaluations[-1] if training.evaluations else {"step": -1.0}
    if last["step"] != training.steps_done:
        return training.measured()
    return {name: last[name] for name in ("loss", "loss_without_contexts") if name in last}


def _should_stop(training: ConceptTraining) -> bool:
    """Whether the last ``stop_after`` evaluations brought no improvement."""
    best, patience = best_evaluation(training), training.settings.stop_after
    return bool(patience and best and len(training.evaluations) - 1 - training.evaluations.index(best) >= patience)
