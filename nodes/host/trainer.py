"""Run a training from host objects to a finished concept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...dci_core.concept import Concept, ConceptInfo
from ...dci_core.errors import UserInputError
from ...dci_core.training import ConceptTraining, TrainingSettings, run_training
from ...dci_core.version import VERSION
from .families import family_of
from .training import TrainingInputs, prepare_training
from .weights import base_hash


def train_concept(
    model: Any,
    clip: Any,
    vae: Any,
    inputs: TrainingInputs,
    settings: TrainingSettings,
    on_step: Callable[[int, float], None],
    placeholder: str = "V*",
    keep_contexts: bool = False,
) -> tuple[Concept, list[float]]:
    """Train a concept and return it with the loss of every step.

    Call it in a node, inside the executor's inference mode. Model, CLIP and VAE are not changed, and
    whatever ``on_step`` raises leaves them as they are.

    Raises:
        UserInputError: an input cannot be used, or the loss stopped being a number.
    """
    training = prepare_training(model, clip, vae, inputs, settings)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            losses = run_training(training, on_step)
            return _finished(model, training, inputs, placeholder, keep_contexts), losses
    finally:
        del training
        comfy.model_management.soft_empty_cache()


def images_from(batches: Sequence[Tensor] | None) -> list[Tensor]:
    """Return the single images [height, width, channels] of a list of IMAGE batches."""
    return [image for batch in batches or [] for image in batch]


def one_caption_each(texts: Sequence[str] | None, images: int, class_noun: str) -> list[str]:
    """Return a caption per class image: a line each, the only line for all, or "photo of a <noun>" without any.

    Raises:
        UserInputError: captions without images.
    """
    lines = [line.strip() for text in texts or [] for line in text.splitlines() if line.strip()]
    if lines and not images:
        raise UserInputError(
            "There are regularization captions but no regularization images. Connect images or clear the text."
        )
    if len(lines) <= 1:
        return (lines or [f"photo of a {class_noun}"]) * images
    return lines


def _finished(
    model: Any, training: ConceptTraining, inputs: TrainingInputs, placeholder: str, keep_contexts: bool
) -> Concept:
    settings = training.settings
    info = ConceptInfo(
        family=family_of(model).name,
        class_noun=inputs.class_noun,
        placeholder=placeholder,
        prefix=settings.scheme.prefix,
        suffix=settings.scheme.suffix,
        concept_vectors=settings.scheme.concept_vectors,
        steps=settings.steps,
        seed=settings.seed,
        base_hash=base_hash(model),
        settings={
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "context_learning_rate": settings.context_learning_rate,
            "flip": settings.flip,
            "resolution": inputs.resolution_px or family_of(model).native_size_px,
            "images": len(inputs.images),
            "regularization_images": len(inputs.regularization_images),
        },
        package_version=VERSION,
    )
    tokens = {name: vectors.detach().cpu().clone() for name, vectors in training.tokens.items()}
    contexts = {name: vectors.detach().cpu().clone() for name, vectors in training.contexts.items()}
    keep = keep_contexts and settings.scheme.contexts > 0
    return Concept(training.key_value_deltas(), tokens, info, contexts if keep else None)
