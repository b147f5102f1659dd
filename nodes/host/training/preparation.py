"""Prepare a training run from host objects: private copies of the network and text encoders, cached latents.

Host encoders are called while the executor's inference mode is on; everything trainable is cloned outside
it. Nothing of the host is changed: its weights are read, never written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import comfy.model_management
import torch
from torch import Tensor

from ....dci_core.images.crop import center_crop, latent_mask
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
from ....dci_core.training.model import DiffusionModel
from ....dci_core.training.prompts import PromptParts
from ....dci_core.training.settings import TrainingSettings
from ..model import HostModel
from ..tokenizer import noun_ids, real_tokens
from .autoencoder import encoded
from .inputs import TrainingInputs, check_run
from .networks import EMBEDDINGS, HostDenoiser, HostPromptEncoder, text_encoder, without_vocabulary


def prepare_training(base: HostModel, inputs: TrainingInputs, settings: TrainingSettings) -> ConceptTraining:
    """Encode the images, copy the networks, and return a run at its start. Call it inside inference mode.

    Raises:
        UserInputError: images, captions, model or CLIP cannot be used.
    """
    check_run(base, inputs, settings)
    masks = _latent_masks(base, inputs, settings.flip)
    latents = _encode_images(base, inputs.images, inputs, settings.flip, "Reference image")
    class_latents = _encode_images(base, inputs.regularization_images, inputs, settings.flip, "Regularization image")
    class_text = _encode_captions(base, inputs.regularization_captions)
    device = comfy.model_management.get_torch_device()
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    comfy.model_management.throw_exception_if_processing_interrupted()
    with torch.inference_mode(False):
        encoders = {name: text_encoder(base.clip, name) for name in base.family.text_encoders}
        prompts = _prompt_parts(base, encoders, inputs, settings, device)
        regularization = None
        if class_text is not None:
            regularization = RegularizationSet(_own_images(class_latents, device), text=_own_text(class_text, device))
        own_masks = [_own(mask, device) for mask in masks] or None
        recompute = settings.gradient_checkpointing
        text = {name: without_vocabulary(encoder, device, recompute) for name, encoder in encoders.items()}
        model = DiffusionModel(
            denoiser=HostDenoiser(base, device, settings),
            encoder=HostPromptEncoder(text, base.family.pooled_from),
            sigmas=base.sigmas.detach().cpu().clone(),
            prediction=base.prediction,
        )
        references = ImageSet(_own_images(latents, device), own_masks)
        return ConceptTraining(settings, model, prompts, references, regularization)


def _prompt_parts(
    base: HostModel,
    encoders: Mapping[str, ClipTextTransformer],
    inputs: TrainingInputs,
    settings: TrainingSettings,
    device: torch.device,
) -> PromptParts:
    """Return what the prompts are made of at the start, on a device; random vectors are drawn on the CPU."""
    generator = torch.Generator().manual_seed(settings.seed)
    words = {name: _prompt_words(base, name, encoder, inputs.class_noun) for name, encoder in encoders.items()}
    tokens = {
        name: initial_concept(_rows(encoder, CONCEPT_INITIAL_IDS), settings.scheme, generator)
        for name, encoder in encoders.items()
    }
    contexts = {
        name: _initial_contexts(base, name, encoder, len(inputs.images), settings, generator)
        for name, encoder in encoders.items()
    }
    captions = {
        name: [_rows(encoder, noun_ids(base.clip, name, caption)).to(device) for caption in inputs.captions]
        for name, encoder in encoders.items()
    }
    return PromptParts(
        words={name: some.to(device) for name, some in words.items()},
        tokens={name: vectors.float().to(device) for name, vectors in tokens.items()},
        contexts={name: vectors.float().to(device) for name, vectors in contexts.items()},
        captions=captions if inputs.captions else None,
    )


def _encode_images(
    base: HostModel, images: Sequence[Tensor], inputs: TrainingInputs, flip: bool, kind: str
) -> list[Tensor]:
    """Return scaled latents of each image, [F, D, h, w], the mirrored one behind when ``flip``."""
    all_latents = []
    for number, image in enumerate(images, 1):
        comfy.model_management.throw_exception_if_processing_interrupted()
        cropped = center_crop(image, *_size_of(image, base, inputs))
        variants = torch.stack([cropped, cropped.flip(1)] if flip else [cropped])
        latents = encoded(base.vae, variants, f"{kind} {number}")
        all_latents.append(base.model.model.process_latent_in(latents).float())
    return all_latents


def _latent_masks(base: HostModel, inputs: TrainingInputs, flip: bool) -> list[Tensor]:
    """Return each mask at the size of its latents, [F, 1, h, w], the mirrored one behind when ``flip``."""
    small = [
        latent_mask(mask, *_size_of(image, base, inputs), base.family.pixels_per_latent)
        for image, mask in zip(inputs.images, inputs.masks)
    ]
    return [torch.stack([mask, mask.flip(-1)] if flip else [mask]) for mask in small]


def _size_of(image: Tensor, base: HostModel, inputs: TrainingInputs) -> tuple[int, int]:
    """Return height and width in pixels that an image is brought to."""
    return inputs.size_of(image, base.family.resolution(inputs.resolution))


def _encode_captions(base: HostModel, captions: Sequence[str]) -> TextConditioning | None:
    if not captions:
        return None
    contexts, pooled = [], []
    for caption in captions:
        tokens, _ = real_tokens(base.clip, caption)
        context, vector = base.clip.encode_from_tokens(tokens, return_pooled=True)
        contexts.append(context)
        pooled.append(vector)
    return TextConditioning(torch.cat(contexts), None if base.family.pooled_from is None else torch.cat(pooled))


def _rows(encoder: ClipTextTransformer, ids: Sequence[int]) -> Tensor:
    return encoder.weights[EMBEDDINGS][list(ids)].float()


def _prompt_words(base: HostModel, name: str, encoder: ClipTextTransformer, class_noun: str) -> PromptWords:
    tokenizer = base.tokenizers[name]
    ids = noun_ids(base.clip, name, class_noun)
    start, end, padding = _rows(encoder, [tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token])
    return PromptWords(start, _rows(encoder, ids), end, padding, tokenizer.max_length)


def _initial_contexts(
    base: HostModel,
    name: str,
    encoder: ClipTextTransformer,
    images: int,
    settings: TrainingSettings,
    generator: torch.Generator,
) -> Tensor:
    def words(phrase: Sequence[str] | None) -> Tensor | None:
        return None if phrase is None else _rows(encoder, [noun_ids(base.clip, name, word)[0] for word in phrase])

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
