"""Run a training from host objects to a finished concept, on disk before it is returned."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import comfy.model_management
import torch
from safetensors import SafetensorError

from ....dci_core.concept.concept import Concept
from ....dci_core.concept.file import written_size
from ....dci_core.errors import UserInputError
from ....dci_core.files import check_room, megabytes, reason_of
from ....dci_core.log import LOG
from ....dci_core.training.concept_training import ConceptTraining
from ....dci_core.training.folder import FINISHED_STATE, MOST_STEPS, TrainingFolder, name_of_run
from ....dci_core.training.going_on import beginning_text
from ....dci_core.training.report import end_report
from ....dci_core.training.run import CheckpointPlan, KeepState, run_training
from ....dci_core.training.settings import TrainingSettings
from ....dci_core.training.state import expected_size, state_of
from ..concepts.store import folder_name, places_of, roots_beside
from ..model import HostModel
from .description import ConceptMaker, keys_of
from .inputs import TrainingInputs, check_run
from .memory import is_out_of_memory, out_of_memory
from .observer import TrainingObserver
from .preparation import prepare_training
from .preview import Previewer, PreviewPlan


@dataclass(frozen=True)
class Storage:
    """Where and when a run is kept on disk.

    Args:
        root: folder in which each run gets a folder of its own; None keeps nothing.
        plan: when checkpoints are written, and whether the state after the last step is kept.
        reuse: go on from what the same inputs have left, with fewer steps too, and return a finished concept instead of training
            again; False deletes what the same inputs and steps have left, and uses nothing of other runs.
    """

    root: Path | None = None
    plan: CheckpointPlan = field(default_factory=CheckpointPlan)
    reuse: bool = True


def train_concept(
    base: HostModel,
    inputs: TrainingInputs,
    settings: TrainingSettings,
    storage: Storage | None = None,
    preview: PreviewPlan | None = None,
    observer: TrainingObserver | None = None,
) -> tuple[Concept, list[float]]:
    """Train a concept and return it with the loss of every step.

    Call it in a node, inside the executor's inference mode. The model is not changed, and whatever the observer raises
    leaves it as it is.

    Args:
        base: what is trained on.
        inputs: images, their texts and how they are taken.
        settings: what is learned, and how.
        storage: where the run is kept; None keeps nothing.
        preview: when pictures are drawn; None draws none.
        observer: is told of steps, pictures and the end.

    Raises:
        UserInputError: an input cannot be used, the loss stopped being a number, or memory ran out.
    """
    check_run(base, inputs, settings)
    base.check_vae()
    storage, observer = storage or Storage(), observer or TrainingObserver()
    previewer = Previewer(base, preview, inputs, settings.scheme.concept_vectors) if preview and preview.every else None
    folder = None
    if storage.root is not None:
        folder, *others = _folders_of(storage, storage.root, base, inputs, settings, observer)
        for place in (folder, *others) if storage.reuse else ():
            with torch.inference_mode(False):
                finished = place.finished()
            if finished is not None:
                _tidy(folder, storage.plan.keep_state, observer)
                if storage.plan.keep_state is KeepState.ALWAYS and settings.goes_on and not place.states(MOST_STEPS):
                    observer.announce(
                        f"{name_of_run(place.path)} holds no state, so more steps would begin at step 1; switch reuse off to train it anew with "
                        "its state kept."
                    )
                _report(finished, observer, _reused(place, finished, storage.plan))
                return finished, list(finished.info.history["loss"])
    make_concept = ConceptMaker(base, inputs, settings, "" if folder is None else folder.key)
    if folder is not None:
        check_room(folder.path, 0, "This training")
        if not storage.reuse:
            folder.clear()
        beginning = beginning_text(folder, make_concept.facts, settings)
        if beginning:
            observer.announce(beginning)
    try:
        concept, losses = _train(
            prepare_training(base, inputs, settings),
            make_concept,
            folder,
            storage,
            previewer,
            observer,
        )
        _report(concept, observer)
        return concept, losses
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, settings) from error
        raise
    finally:
        comfy.model_management.soft_empty_cache()


def _folders_of(
    storage: Storage,
    root: Path,
    base: HostModel,
    inputs: TrainingInputs,
    settings: TrainingSettings,
    observer: TrainingObserver,
) -> list[TrainingFolder]:
    """Return the folder of the run, and behind it others in which it may be finished: of disks that are only read."""
    keys = keys_of(base, inputs, settings)
    roots = roots_beside(root) if storage.reuse else ()
    places = places_of(root, folder_name(inputs.class_noun, keys.run))
    return [TrainingFolder(place, keys.run, keys.path, roots, observer.warn) for place in places]


def _train(
    training: ConceptTraining,
    make_concept: ConceptMaker,
    folder: TrainingFolder | None,
    storage: Storage,
    previewer: Previewer | None,
    observer: TrainingObserver,
) -> tuple[Concept, list[float]]:
    """Run a training and write its concept. The caller holds no run, so that its copies are freed on return."""

    def after_step(step: int, loss: float) -> None:
        observer.on_step(step, loss)
        if previewer is not None and previewer.is_due(step):
            picture = previewer.draw(training, observer.warn)
            if picture is not None:
                observer.on_preview(step, picture)

    with torch.inference_mode(False), torch.enable_grad():
        if folder is not None:
            _look_ahead(folder, storage.plan, training, make_concept(training), observer)
        try:
            losses = run_training(training, after_step, folder, storage.plan, make_concept)
        except comfy.model_management.InterruptProcessingException:
            text = _stopped(training, folder, storage.reuse)
            LOG.info(text)
            observer.tell(text)
            raise
        concept = make_concept(training)
        if folder is not None:
            _write(folder, concept, storage.plan, training, observer)
    return concept, losses


def _stopped(training: ConceptTraining, folder: TrainingFolder | None, reuse: bool) -> str:
    """Say where a cancelled run stopped, and how it goes on."""
    done, steps = training.steps_done, training.settings.steps
    states = [] if folder is None else [state.steps for state in folder.states(steps)]
    kept = max((step for step in states if step <= done), default=0)
    there = f" from step {kept}" if kept < done else ""
    how = f"{'queue' if reuse else 'switch reuse on and queue'} the same graph again to go on{there}"
    return f"Stopped at step {done} of {steps}; {how if kept else 'nothing of it was kept'}."


def _look_ahead(
    folder: TrainingFolder,
    plan: CheckpointPlan,
    training: ConceptTraining,
    concept: Concept,
    observer: TrainingObserver,
) -> None:
    """Check before the first step that the run can be kept, and say what will not be.

    Args:
        folder, plan, training, observer: of the run.
        concept: of the run, for its size.

    Raises:
        UserInputError: there is no room for the finished concept.
    """
    size = written_size(concept, "float32")
    check_room(folder.path, size, "The finished concept of this training")
    try:
        check_room(
            folder.path, plan.room(training, size) - _size_of(folder.path), "Checkpoints and states of this training"
        )
    except UserInputError as error:
        observer.warn(f"{error} Training goes on without those that do not fit.")
    if training.settings.goes_on and plan.keep_state is KeepState.UP_TO_1_GB and not plan.keeps_state(training):
        observer.announce(
            f"The state after the last step will not be kept, as it takes {megabytes(expected_size(training))}: to be able to go on with "
            "more steps later, set keep_state to always before the run ends."
        )


def _size_of(folder: Path) -> int:
    """Return how many bytes the files of a folder take; another process may delete some meanwhile."""
    size = 0
    for file in folder.glob("*"):
        with suppress(OSError):
            size += file.stat().st_size
    return size


def _tidy(folder: TrainingFolder, keep_state: KeepState, observer: TrainingObserver) -> None:
    """Drop what a finished run no longer needs: its process may have been killed before it did, or keep_state has changed."""
    state = folder.path / FINISHED_STATE
    was_there = state.is_file()
    folder.drop_states(keep_finished=keep_state is not KeepState.NEVER)
    if was_there and not state.is_file():
        observer.announce(f"The state of {name_of_run(folder.path)} was deleted, as keep_state is never.")


def _report(concept: Concept, observer: TrainingObserver, before: str = "") -> None:
    """Log what a finished run says of itself, warnings as such, and tell the observer."""
    said, warnings = end_report(concept.info)
    said = f"{before}\n{said}" if before else said
    LOG.info(said)
    for warning in warnings:
        LOG.warning(warning)
    observer.tell("\n".join([said, *warnings]))


def _reused(folder: TrainingFolder, finished: Concept, plan: CheckpointPlan) -> str:
    missing = folder.missing(plan.steps, finished.info.steps)
    text = f"These inputs were trained before; the concept in {folder.path} is returned."
    if missing:
        text += (
            f" The concepts of steps {', '.join(map(str, missing))} were not kept: set steps to the number you want, or switch reuse "
            "off to train all of it anew."
        )
    return text


def _write(
    folder: TrainingFolder,
    concept: Concept,
    plan: CheckpointPlan,
    training: ConceptTraining,
    observer: TrainingObserver,
) -> None:
    try:
        superseded = folder.finish(concept, state_of(training) if plan.keeps_state(training) else None)
    except (OSError, SafetensorError) as error:
        observer.warn(
            f"The finished concept could not be written to {folder.path}: {reason_of(error)}. Save it elsewhere now."
        )
        return
    for state in superseded:
        observer.announce(
            f"The state of {name_of_run(state.parent)} was deleted, as this run's takes its place; its concepts stay."
        )
