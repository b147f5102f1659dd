"""What the user gives a training run, and everything that can be wrong with it, found before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import comfy.model_sampling
import torch
from torch import Tensor

from ....dci_core.concept.scheme import ICOScheme
from ....dci_core.errors import UserInputError
from ....dci_core.images.crop import BUCKET_STEP_PX, is_one_colour
from ....dci_core.training.diffusion import Prediction
from ....dci_core.training.ico import PromptWords, end_position
from ....dci_core.training.optimization import check_optimizer
from ....dci_core.training.settings import TrainingSettings
from ..families import Family, family_of
from ..tokenizer import encoders_of, noun_ids, real_tokens

MOST_IMAGES = 200


class Crop(str, Enum):
    """How images are brought to a size: their centre square, or buckets of several proportions."""

    CENTER = "center"
    BUCKETS = "buckets"


@dataclass(frozen=True)
class TrainingInputs:
    """What the user gives a training run.

    Args:
        images: reference images, each [height, width, 3], values 0 … 1.
        class_noun: the descriptor, checked.
        regularization_images: class images, or empty.
        regularization_captions: one per class image.
        resolution_px: edge of the training images, a multiple of 8; 0 is the family's native size.
        masks: where each reference image counts, [height, width] as the image, values 0 … 1; empty is everywhere.
        crop: centre squares, or the nearest aspect-ratio bucket of the same area.
        captions: what is around the subject in each reference image, without V*; its words, taken as they stand, are added
            to the image's prompt. "" adds nothing; empty is none.
    """

    images: Sequence[Tensor]
    class_noun: str
    regularization_images: Sequence[Tensor] = ()
    regularization_captions: Sequence[str] = ()
    resolution_px: int = 0
    masks: Sequence[Tensor] = ()
    crop: Crop = Crop.CENTER
    captions: Sequence[str] = ()


def check_trainable(model: Any, clip: Any) -> Family:
    """Return the model's family.

    Raises:
        UserInputError: the model cannot be trained, or the CLIP does not belong to it.
    """
    family = family_of(model)
    if clip is None:
        raise UserInputError(
            "There is no CLIP: the checkpoint holds no text encoder. Load one with a CLIP loader and connect that."
        )
    config = model.model.model_config.unet_config
    if config["in_channels"] != 4 or (family.name == "sd2" and config.get("adm_in_channels")):
        raise UserInputError(
            f"This {family.name} model takes extra inputs ({config['in_channels']} channels: inpainting, unCLIP or edit "
            "model). Train on the plain text-to-image model of the family; the concept can be applied to this one."
        )
    prediction_of(model)
    found = tuple(encoders_of(clip))
    if set(found) != set(family.text_encoders):
        raise UserInputError(
            f"A {family.name} model needs the text encoders {list(family.text_encoders)}, this CLIP has {list(found)}. "
            "Connect the CLIP of the same checkpoint."
        )
    return family


def prediction_of(model: Any) -> Prediction:
    """Return what the network predicts, also after a ModelSampling node changed it.

    Raises:
        UserInputError: something other than ε or v.
    """
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete) or isinstance(
        sampling, (comfy.model_sampling.EDM, comfy.model_sampling.X0)
    ):
        raise UserInputError(
            f"This model samples as {type(sampling).__mro__[1].__name__}. Training knows ε- and v-prediction with discrete "
            "timesteps; take model-sampling nodes out or use another checkpoint."
        )
    if len(sampling.sigmas) != sampling.num_timesteps:
        raise UserInputError(
            f"This model samples on {len(sampling.sigmas)} of its {sampling.num_timesteps} timesteps (distilled, such as LCM). Train "
            "on the model from before that node; the concept can be applied to this one."
        )
    return Prediction.V if isinstance(sampling, comfy.model_sampling.V_PREDICTION) else Prediction.EPSILON


def check_vae(vae: Any) -> None:
    """Refuse a VAE that is none, as loaders return for checkpoints without one, or whose latents are another kind's.

    Raises:
        UserInputError: as above.
    """
    if vae is None or vae.first_stage_model is None:
        raise UserInputError("There is no VAE: the checkpoint holds none. Load one with Load VAE and connect that.")
    if vae.latent_channels != 4:
        raise UserInputError(
            f"This VAE makes latents of {vae.latent_channels} channels, the model takes 4. Connect the VAE of the same family."
        )


def check_run(model: Any, clip: Any, inputs: TrainingInputs, settings: TrainingSettings) -> Family:
    """Return the model's family; everything that can be wrong without looking into images is found here, at no cost.

    Raises:
        UserInputError: images, captions, model or CLIP cannot be used, or the optimizer is not installed.
    """
    family = check_trainable(model, clip)
    _check_inputs(clip, family, inputs, settings.prompt_scheme)
    check_optimizer(settings.optimizer)
    return family


def check_class_caption(clip: Any, caption: str) -> None:
    """Refuse a regularization caption that does not fit into one prompt.

    Raises:
        UserInputError: as above.
    """
    tokens, _ = real_tokens(clip, caption)
    if any(len(rows) > 1 for rows in tokens.values()):
        raise UserInputError(f"The regularization caption {caption!r} is longer than 75 tokens. Shorten it.")


def _check_inputs(clip: Any, family: Family, inputs: TrainingInputs, scheme: ICOScheme) -> None:
    if not 1 <= len(inputs.images) <= MOST_IMAGES:
        raise UserInputError(
            f"There are {len(inputs.images)} reference images; 1 to {MOST_IMAGES} can be used, 4 to 8 are usual."
        )
    for number, image in enumerate(inputs.images, 1):
        if image.ndim == 3 and is_one_colour(image):
            raise UserInputError(
                f"Reference image {number} is one even colour, so there is nothing to learn from it. Look at what is connected, or "
                "leave it out."
            )
    pairs = len(inputs.regularization_images), len(inputs.regularization_captions)
    if pairs[0] != pairs[1]:
        raise UserInputError(
            f"There are {pairs[0]} regularization images and {pairs[1]} captions. Write one caption per image, one per line, "
            "or a single caption for all."
        )
    if inputs.resolution_px % 8 or not (inputs.resolution_px == 0 or 64 <= inputs.resolution_px <= 2048):
        raise UserInputError(
            f"The resolution must be 0 (the model's own) or a multiple of 8 from 64 to 2048, but got {inputs.resolution_px}."
        )
    if inputs.crop is Crop.BUCKETS and inputs.resolution_px % BUCKET_STEP_PX:
        raise UserInputError(f"With buckets the resolution must be a multiple of 64, but got {inputs.resolution_px}.")
    _check_masks(inputs)
    if len(inputs.captions) not in (0, len(inputs.images)):
        raise UserInputError(
            f"There are {len(inputs.images)} reference images and {len(inputs.captions)} captions. Write one caption per image, "
            "one per line, a single caption for all, or none."
        )
    for name in family.text_encoders:
        ids = noun_ids(clip, name, inputs.class_noun)
        if not ids:
            raise UserInputError(
                f"The class noun {inputs.class_noun!r} has no token this model knows. Write a plain word."
            )
        empty = torch.empty(0)
        length = encoders_of(clip)[name].max_length
        end = end_position(PromptWords(empty, torch.empty(len(ids), 0), empty, empty, length), scheme)
        for caption in inputs.captions:
            _check_caption_length(caption, len(noun_ids(clip, name, caption)), length - 1 - end, length)
    for caption in inputs.regularization_captions:
        check_class_caption(clip, caption)


def _check_caption_length(caption: str, tokens: int, room: int, length: int) -> None:
    if tokens > room:
        raise UserInputError(
            f"The caption {caption!r} has {tokens} tokens; of the {length} that the text encoder takes, {room} are left for it "
            "beside the subject and the contexts. Shorten it."
        )


def _check_masks(inputs: TrainingInputs) -> None:
    if inputs.masks and len(inputs.masks) != len(inputs.images):
        raise UserInputError(
            f"There are {len(inputs.images)} reference images and {len(inputs.masks)} masks. Give one mask per image, or none."
        )
    for number, (image, mask) in enumerate(zip(inputs.images, inputs.masks), 1):
        if not mask.any():
            raise UserInputError(
                f"Mask {number} is black everywhere, so nothing of its image would be learned. White is what counts. Load Image gives a "
                "black mask for a picture without transparency: leave masks out, or use Load Image Folder."
            )
        if mask.shape != image.shape[:2]:
            raise UserInputError(
                f"Mask {number} is {tuple(mask.shape)}, its image is {tuple(image.shape[:2])} (height, width). Make them the "
                "same size."
            )
