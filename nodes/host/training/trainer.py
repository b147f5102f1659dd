"""Run a training from host objects to a finished concept, on disk before it is returned."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from safetensors import SafetensorError
from torch import Tensor

from ....dci_core.concept.concept import Concept
from ....dci_core.errors import UserInputError
from ....dci_core.log import LOG
from ....dci_core.prompt.words import check_caption
from ....dci_core.training.folder import TrainingFolder
from ....dci_core.training.report import end_report
from ....dci_core.training.run import CheckpointPlan, run_training
from ....dci_core.training.settings import TrainingSettings
from .description import ConceptMaker, key_of
from .inputs import TrainingInputs, check_run, check_vae
from .memory import is_out_of_memory, out_of_memory
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
    model: Any,
    clip: Any,
    vae: Any,
    inputs: TrainingInputs,
    settings: TrainingSettings,
    on_step: Callable[[int, float], None],
    placeholder: str = "V*",
    keep_contexts: bool = False,
    storage: Storage | None = None,
    preview: PreviewPlan | None = None,
    on_preview: Callable[[int, Tensor], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> tuple[Concept, list[float]]:
    """Train a concept and return it with the loss of every step.

    Call it in a node, inside the executor's inference mode. Model, CLIP and VAE are not changed, and
    whatever ``on_step`` raises leaves them as they are. ``on_preview`` gets the step and a picture [height, width, 3];
    previews change nothing that is learned. ``tell`` is told at the end what the run says of itself (``training_report``), and when
    nothing had to be trained; the log is in any case.

    Raises:
        UserInputError: an input cannot be used, the loss stopped being a number, or memory ran out.
    """
    for caption in inputs.captions:
        check_caption(caption, placeholder, inputs.class_noun)
    check_run(model, clip, inputs, settings)
    check_vae(vae)
    previewer = None
    if preview is not None and preview.every and on_preview is not None:
        previewer = Previewer(
            model,
            clip,
            vae,
            preview,
            inputs.class_noun,
            placeholder,
            settings.scheme.concept_vectors,
            inputs.resolution_px,
        )
    storage = storage or Storage()
    folder = None
    key = ""
    if storage.root is not None:
        key = key_of(model, clip, vae, inputs, settings, placeholder, keep_contexts)
        folder = TrainingFolder(storage.root / folder_name(inputs.class_noun, key), key)
        if not storage.reuse:
            folder.clear()
        with torch.inference_mode(False):
            finished = folder.finished()
        if finished is not None:
            _report(finished, tell, _reused(folder, finished, storage.plan))
            folder.drop_states()  # the process may have been killed before it did
            return finished, list(finished.info.history["loss"])
    try:
        training = prepare_training(model, clip, vae, inputs, settings)

        def after_step(step: int, loss: float) -> None:
            on_step(step, loss)
            if previewer is not None and on_preview is not None and previewer.is_due(step):
                picture = previewer.draw(training)
                if picture is not None:
                    on_preview(step, picture)

        make_concept = ConceptMaker(model, inputs, settings, placeholder, keep_contexts, key)
        with torch.inference_mode(False), torch.enable_grad():
            losses = run_training(training, after_step, folder, storage.plan, make_concept)
            concept = make_concept(training)
            if folder is not None:
                _write(folder, concept)
        _report(concept, tell)
        return concept, losses
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, settings) from error
        raise
    finally:
        training = None  # the private copies are freed before the cache is emptied
        comfy.model_management.soft_empty_cache()


def _report(concept: Concept, tell: Callable[[str], None] | None, before: str = "") -> None:
    """Log what a finished run says of itself, warnings as such, and show it on the node."""
    said, warnings = end_report(concept.info)
    said = f"{before}\n{said}" if before else said
    LOG.info(said)
    for warning in warnings:
        LOG.warning(warning)
    if tell is not None:
        tell("\n".join([said, *warnings]))


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


def folder_name(class_noun: str, key: str) -> str:
    """Return the name of a run's folder: the class noun in letters any system allows, and the start of the key."""
    return f"{re.sub(r'[^a-z0-9]+', '-', class_noun.lower()).strip('-')[:40] or 'concept'}-{key[:12]}"


def images_from(batches: Sequence[Tensor] | None) -> list[Tensor]:
    """Return the single images [height, width, channels] of a list of IMAGE batches."""
    return [image for batch in batches or [] for image in batch]


def masks_from(batches: Sequence[Tensor] | None) -> list[Tensor]:
    """Return the single masks [height, width] of a list of MASK batches; none when all are white everywhere."""
    masks = [mask for batch in batches or [] for mask in batch.reshape(-1, *batch.shape[-2:])]
    return masks if any((mask != 1.0).any() for mask in masks) else []


def one_caption_each(texts: Sequence[str] | None, images: int, class_noun: str) -> list[str]:
    """Return a caption per class image: a text or a line each, the only line for all, "photo of a <noun>" without any.

    Raises:
        UserInputError: captions without images.
    """
    if not images and any(text.strip() for text in texts or []):
        raise UserInputError(
            "There are regularization captions but no regularization images. Connect images or clear the text."
        )
    usual = f"photo of a {class_noun}"
    return [caption or usual for caption in captions_from(texts, images)] or [usual] * images


def captions_from(texts: Sequence[str] | None, images: int) -> list[str]:
    """Return a caption per image, "" for an image without: a text or a line each, or the only line for all; [] without any."""
    texts = list(texts or [])
    if len(texts) == images:  # a list, as Load Image Folder gives it
        captions = [" ".join(text.split()) for text in texts]
    else:
        lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
        captions = lines * images if len(lines) == 1 else lines
    return captions if any(captions) else []
