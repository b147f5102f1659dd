"""Run a training to its end: checkpoints, evaluations, early stop. Nothing that was reached is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from safetensors import SafetensorError

from ..concept.concept import Concept
from ..errors import DivergenceError, UserInputError
from ..log import LOG
from ..setting import check_settings, setting
from .concept_training import ConceptTraining
from .folder import TrainingFolder
from .state import restore_state, state_of


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

    def __post_init__(self) -> None:
        check_settings(self)
        if any(step < 1 for step in self.steps):
            raise UserInputError(f"checkpoint_steps must be steps from 1 on, but got {list(self.steps)}.")

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after a step."""
        return step in self.steps or bool(self.every and step % self.every == 0)


def run_training(
    training: ConceptTraining,
    on_step: Callable[[int, float], None],
    folder: TrainingFolder | None = None,
    plan: CheckpointPlan | None = None,
    make_concept: Callable[[ConceptTraining], Concept] | None = None,
) -> list[float]:
    """Run all steps and return their losses; with a folder, go on from its newest checkpoint.

    Whatever interrupts the run, its folder then holds the last step that was completed, unless the run diverged:
    then it holds the last checkpoint before.

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
        if (
            training.steps_done and _evaluate(training) and keeper is not None
        ):  # interrupted between step and evaluation
            keeper.after_step(improved=True)
        while training.steps_done < training.settings.steps and not _should_stop(training):
            loss = training.step()
            improved = _evaluate(training)
            if keeper is not None:
                keeper.after_step(improved)
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
        state = self._folder.latest_state()
        if state is not None:
            if state.values.get("start") is None:  # written by an older version; afterwards it would be too late
                self._training.start = self._training.measured()
            restore_state(self._training, state)
            self._saved = self._training.steps_done
            missing = self._folder.missing(self._plan.steps, self._saved)
            if missing:
                LOG.warning(
                    "The run goes on from step %d; the concepts of steps %s, named in checkpoint_steps, were not kept on the way there.",
                    self._saved,
                    missing,
                )

    def after_step(self, improved: bool) -> None:
        step = self._training.steps_done
        if improved:
            self._save_best()
        if self._plan.is_due(step):
            self.save_now()

    def _save_best(self) -> None:
        try:
            self._folder.save_best(self._make_concept(self._training))
        except (OSError, SafetensorError) as error:
            LOG.warning("The best concept could not be written: %s. Training goes on.", error)

    def save_now(self) -> None:
        if self._training.steps_done == self._saved:
            return
        try:
            self._folder.save_checkpoint(self._make_concept(self._training), state_of(self._training))
            self._folder.prune(self._plan.keep, self._plan.steps)
        except (OSError, SafetensorError) as error:
            LOG.warning("No checkpoint after step %d: %s. Training goes on.", self._training.steps_done, error)
        self._saved = self._training.steps_done


def _evaluate(training: ConceptTraining) -> bool:
    """Evaluate when it is time; return whether that was the best so far."""
    every, step = training.settings.evaluate_every, training.steps_done
    done = bool(training.evaluations) and training.evaluations[-1]["step"] == step
    if not every or done or (step % every and step != training.settings.steps):
        return False
    entry = {"step": float(step), **training.measured()}
    drift = training.drift_loss()
    training.evaluations.append(entry if drift is None else {**entry, "drift": drift})
    return best_evaluation(training) is training.evaluations[-1]


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
