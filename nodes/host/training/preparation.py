"""Prepare a training run from host objects: private copies of the network and text encoders, cached latents.

Host encoders are called while the executor's inference mode is on; everything trainable is cloned outside
it. Nothing of the host is changed: its weights are read, never written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.clip_model
import comfy.model_management
import comfy.ops
import torch
from torch import Tensor

from ....dci_core.images.crop import bucket_of, center_crop, latent_mask
from ....dci_core.training.clip_text import ClipTextTransformer
from ....dci_core.training.concept_training import ConceptTraining
from ....dci_core.training.data import ImageSet, RegularizationSet, TextConditioning
from ....dci_core.training.ico import (
    CONCEPT_INITIAL_IDS,
    PREFIX_WORDS,
    SUFFIX_WORDS,
    TEMPLATE_WORDS,
    PromptWords,
    initial_concept,
    initial_contexts,
)
from ....dci_core.training.settings import TrainingSettings
from ..tokenizer import encoders_of, noun_ids, real_tokens
from .inputs import Crop, TrainingInputs, check_run, prediction_of
from .networks import EMBEDDINGS, HostDenoiser, HostPromptEncoder, text_encoder, without_vocabulary


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
