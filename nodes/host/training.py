"""Prepare a training run from host objects: private copies of the network and text encoders, cached latents.

Host encoders are called while the executor's inference mode is on; everything trainable is cloned outside
it. Nothing of the host is changed: its weights are read, never written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import comfy.clip_model
import comfy.model_management
import comfy.model_sampling
import comfy.ops
import torch
from torch import Tensor

from ...dci_core.clip_text import ClipTextTransformer
from ...dci_core.diffusion import Prediction
from ...dci_core.errors import UserInputError
from ...dci_core.ico import (
    CONCEPT_INITIAL_IDS,
    PREFIX_WORDS,
    SUFFIX_WORDS,
    TEMPLATE_WORDS,
    ICOScheme,
    PromptWords,
    end_position,
    initial_concept,
    initial_contexts,
)
from ...dci_core.images import BUCKET_STEP_PX, bucket_of, center_crop, is_one_colour, latent_mask
from ...dci_core.optimization import check_optimizer
from ...dci_core.training import ConceptTraining
from ...dci_core.training_data import ImageSet, RegularizationSet, TextConditioning
from ...dci_core.training_settings import TrainingSettings
from .families import Family, family_of
from .networks import EMBEDDINGS, HostDenoiser, HostPromptEncoder, text_encoder, without_vocabulary
from .tokenizer import encoders_of, noun_ids, real_tokens

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
    return Prediction.V if isinstance(sampling, comfy.model_sampling.V_PREDICTION) else Prediction.EPSILON


def check_run(model: Any, clip: Any, inputs: TrainingInputs, settings: TrainingSettings) -> Family:
    """Return the model's family; everything that can be wrong without looking into images is found here, at no cost.

    Raises:
        UserInputError: images, captions, model or CLIP cannot be used, or the optimizer is not installed.
    """
    family = check_trainable(model, clip)
    _check_inputs(clip, family, inputs, settings.prompt_scheme)
    check_optimizer(settings.optimizer)
    return family


def prepare_training(
    model: Any, clip: Any, vae: Any, inputs: TrainingInputs, settings: TrainingSettings
) -> ConceptTraining:
    """Encode the images, copy the networks, and return a run at its start. Call it inside inference mode.

    Raises:
        UserInputError: images, captions, model or CLIP cannot be used.
    """
    family = check_run(model, clip, inputs, settings)
    size = inputs.resolution_px or family.native_size_px
    prediction = prediction_of(model)
    masks = _latent_masks(inputs, size, settings.flip)
    latents = _encode_images(model, vae, inputs.images, size, inputs.crop, settings.flip)
    class_latents = _encode_images(model, vae, inputs.regularization_images, size, inputs.crop, settings.flip)
    class_text = _encode_captions(clip, inputs.regularization_captions, "clip_g" in family.text_encoders)
    device = comfy.model_management.get_torch_device()
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    comfy.model_management.throw_exception_if_processing_interrupted()
    with torch.inference_mode(False):
        encoders = {name: text_encoder(clip, name) for name in family.text_encoders}
        generator = torch.Generator().manual_seed(settings.seed)
        words = {name: _prompt_words(clip, name, e, inputs.class_noun) for name, e in encoders.items()}
        tokens = {
            n: initial_concept(_rows(e, CONCEPT_INITIAL_IDS), settings.scheme, generator) for n, e in encoders.items()
        }
        contexts = {
            name: _initial_contexts(clip, name, encoder, len(inputs.images), settings, generator)
            for name, encoder in encoders.items()
        }
        regularization = None
        if class_text is not None:
            regularization = RegularizationSet(_own_images(class_latents, device), text=_own_text(class_text, device))
        own_masks = [_own(mask, device) for mask in masks] or None
        captions = {
            name: [_rows(e, noun_ids(clip, name, c)).to(device) for c in inputs.captions]
            for name, e in encoders.items()
        }
        recompute = settings.gradient_checkpointing
        text = {name: without_vocabulary(encoder, device, recompute) for name, encoder in encoders.items()}
        return ConceptTraining(
            settings=settings,
            denoiser=HostDenoiser(model, device, settings),
            encoder=HostPromptEncoder(text, family),
            sigmas=model.get_model_object("model_sampling").sigmas.detach().cpu().clone(),
            prediction=prediction,
            words={
                n: PromptWords(*(v.to(device) for v in (w.start, w.noun, w.end, w.padding))) for n, w in words.items()
            },
            tokens={n: t.float().to(device) for n, t in tokens.items()},
            contexts={n: c.float().to(device) for n, c in contexts.items()},
            references=ImageSet(_own_images(latents, device), own_masks),
            regularization=regularization,
            captions=captions if inputs.captions else None,
        )


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
        tokens, _ = real_tokens(clip, caption)
        if any(len(rows) > 1 for rows in tokens.values()):
            raise UserInputError(f"The regularization caption {caption!r} is longer than 75 tokens. Shorten it.")


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
        if mask.shape != image.shape[:2]:
            raise UserInputError(
                f"Mask {number} is {tuple(mask.shape)}, its image is {tuple(image.shape[:2])} (height, width). Make them the "
                "same size."
            )


def _encode_images(model: Any, vae: Any, images: Sequence[Tensor], size: int, crop: Crop, flip: bool) -> list[Tensor]:
    """Return scaled latents of each image, [F, D, h, w], the mirrored one behind when ``flip``."""
    encoded = []
    for image in images:
        comfy.model_management.throw_exception_if_processing_interrupted()
        cropped = center_crop(image, *_size_of(image, size, crop))
        variants = torch.stack([cropped, cropped.flip(1)] if flip else [cropped])
        encoded.append(model.model.process_latent_in(vae.encode(variants)).float())
    return encoded


def _latent_masks(inputs: TrainingInputs, size: int, flip: bool) -> list[Tensor]:
    """Return each mask at the size of its latents, [F, 1, h, w], the mirrored one behind when ``flip``."""
    small = [latent_mask(mask, *_size_of(image, size, inputs.crop)) for image, mask in zip(inputs.images, inputs.masks)]
    return [torch.stack([mask, mask.flip(-1)] if flip else [mask]) for mask in small]


def _size_of(image: Tensor, size: int, crop: Crop) -> tuple[int, int]:
    if crop is Crop.CENTER or image.ndim != 3:
        return size, size
    return bucket_of(image.shape[0], image.shape[1], size)


def _encode_captions(clip: Any, captions: Sequence[str], with_pooled: bool) -> TextConditioning | None:
    if not captions:
        return None
    contexts, pooled = [], []
    for caption in captions:
        tokens, _ = real_tokens(clip, caption)
        context, vector = clip.encode_from_tokens(tokens, return_pooled=True)
        contexts.append(context)
        pooled.append(vector)
    return TextConditioning(torch.cat(contexts), torch.cat(pooled) if with_pooled else None)


def _rows(encoder: ClipTextTransformer, ids: Sequence[int]) -> Tensor:
    return encoder.weights[EMBEDDINGS][list(ids)].float()


def _prompt_words(clip: Any, name: str, encoder: ClipTextTransformer, class_noun: str) -> PromptWords:
    tokenizer = encoders_of(clip)[name]
    ids = noun_ids(clip, name, class_noun)
    start, end, padding = _rows(encoder, [tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token])
    return PromptWords(start, _rows(encoder, ids), end, padding, tokenizer.max_length)


def _initial_contexts(
    clip: Any,
    name: str,
    encoder: ClipTextTransformer,
    images: int,
    settings: TrainingSettings,
    generator: torch.Generator,
) -> Tensor:
    def words(phrase: Sequence[str] | None) -> Tensor | None:
        return None if phrase is None else _rows(encoder, [noun_ids(clip, name, word)[0] for word in phrase])

    scheme, width = settings.prompt_scheme, encoder.weights[EMBEDDINGS].shape[1]
    if not settings.mode.learns_contexts:
        return initial_contexts(words(TEMPLATE_WORDS), None, images, scheme, width, generator)
    prefix, suffix = PREFIX_WORDS.get(scheme.prefix), SUFFIX_WORDS.get(scheme.suffix)
    return initial_contexts(words(prefix), words(suffix), images, scheme, width, generator)


def _own_images(latents: list[Tensor], device: torch.device) -> Tensor | list[Tensor]:
    """Return private copies, in one tensor where all have one size."""
    own = [_own(latent, device) for latent in latents]
    return torch.stack(own) if len({latent.shape for latent in own}) == 1 else own


def _own(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.clone().to(device)


def _own_text(text: TextConditioning, device: torch.device) -> TextConditioning:
    pooled = None if text.pooled is None else _own(text.pooled, device)
    return TextConditioning(_own(text.context, device), pooled)
