"""Run a training from host objects to a finished concept, on disk before it is returned."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import comfy.model_management
import torch
from safetensors import SafetensorError

from ....dci_core.concept.concept import Concept
from ....dci_core.log import LOG
from ....dci_core.training.concept_training import ConceptTraining
from ....dci_core.training.folder import TrainingFolder
from ....dci_core.training.report import end_report
from ....dci_core.training.run import CheckpointPlan, run_training
from ....dci_core.training.settings import TrainingSettings
from ..concepts.store import folder_name
from ..model import HostModel
from .description import ConceptMaker, key_of
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
        plan: when checkpoints are written.
        reuse: go on from checkpoints of the same inputs, and return a finished concept instead of training again;
            False deletes what the same inputs have left.
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
    folder, key = None, ""
    if storage.root is not None:
        key = key_of(base, inputs, settings)
        folder = TrainingFolder(storage.root / folder_name(inputs.class_noun, key), key)
        if not storage.reuse:
            folder.clear()
        with torch.inference_mode(False):
            finished = folder.finished()
        if finished is not None:
            _report(finished, observer, _reused(folder, finished, storage.plan))
            folder.drop_states()  # the process may have been killed before it did
            return finished, list(finished.info.history["loss"])
    try:
        concept, losses = _train(
            prepare_training(base, inputs, settings),
            ConceptMaker(base, inputs, settings, key),
            folder,
            storage.plan,
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


def _train(
    training: ConceptTraining,
    make_concept: ConceptMaker,
    folder: TrainingFolder | None,
    plan: CheckpointPlan,
    previewer: Previewer | None,
    observer: TrainingObserver,
) -> tuple[Concept, list[float]]:
    """Run a training and write its concept. The caller holds no run, so that its copies are freed on return."""

    def after_step(step: int, loss: float) -> None:
        observer.on_step(step, loss)
        if previewer is not None and previewer.is_due(step):
            picture = previewer.draw(training)
            if picture is not None:
                observer.on_preview(step, picture)

    with torch.inference_mode(False), torch.enable_grad():
        losses = run_training(training, after_step, folder, plan, make_concept)
        concept = make_concept(training)
        if folder is not None:
            _write(folder, concept)
    return concept, losses


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


def _write(folder: TrainingFolder, concept: Concept) -> None:
    try:
        folder.finish(concept)
    except (OSError, SafetensorError) as error:
        LOG.warning("The finished concept could not be written to %s: %s. Save it elsewhere now.", folder.path, error)
