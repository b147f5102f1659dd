"""Preview pictures of a run: drawn by the network in training, decoded by the host's VAE; never a second copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.log import LOG
from ....dci_core.prompt.words import add_class_noun, placeholder_pattern
from ....dci_core.training.concept_training import ConceptTraining
from ....dci_core.training.preview import preview_latents
from ..families import family_of
from ..tokenizer import encoders_of, noun_ids
from .memory import is_out_of_memory
from .networks import EMBEDDINGS


@dataclass(frozen=True)
class PreviewPlan:
    """When and what is drawn.

    Args:
        every: steps between pictures; 0 draws none.
        prompt: with V* in it, whose class noun is added where it is left out; "" is "photo of a V* <noun>".

    Raises:
        UserInputError: ``every`` is outside 0 … 100 000.
    """

    every: int = 0
    prompt: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.every <= 100_000:
            raise UserInputError(f"preview_every must be between 0 and 100000, but got {self.every}. 0 draws none.")


class Previewer:
    """Draw what the concept gives so far. Make it inside the executor's inference mode, before training.

    Args:
        model, clip, vae: the host's.
        plan: when and what.
        class_noun, placeholder: of the run.
        concept_vectors: S of the run.
        size_px: edge of the picture; 0 is the family's native size.

    Raises:
        UserInputError: the prompt has no placeholder, or is too long.
    """

    def __init__(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        plan: PreviewPlan,
        class_noun: str,
        placeholder: str,
        concept_vectors: int,
        size_px: int,
    ) -> None:
        self._model, self._vae = model, vae
        self._every = plan.every
        self._latent = (size_px or family_of(model).native_size_px) // 8
        given = plan.prompt.strip() or f"photo of a {placeholder} {class_noun}"
        prompt = add_class_noun(given, placeholder, class_noun)
        texts = placeholder_pattern([placeholder]).split(prompt)
        if len(texts) == 1:
            raise UserInputError(
                f"The preview prompt {prompt!r} does not contain {placeholder}. Write {placeholder} into it."
            )
        self._words = {name: tuple(_embeddings(clip, name, text) for text in texts) for name in encoders_of(clip)}
        for name, parts in self._words.items():
            most = encoders_of(clip)[name].max_length - 2  # beside the start and the end
            tokens = sum(len(part) for part in parts) + (len(parts) - 1) * concept_vectors
            if tokens > most:
                raise UserInputError(
                    f"The preview prompt {prompt!r} has {tokens} tokens, {placeholder} counting {concept_vectors}; {most} fit. "
                    "Shorten it."
                )

    def is_due(self, step: int) -> bool:
        """Whether a picture is to be drawn after a step."""
        return bool(self._every) and step % self._every == 0

    def draw(self, training: ConceptTraining) -> Tensor | None:
        """Return a picture [height, width, 3], values 0 … 1; None when memory did not suffice, which is only logged."""
        try:
            device = next(iter(training.tokens.values())).device
            words = {name: tuple(part.to(device) for part in parts) for name, parts in self._words.items()}
            latents = preview_latents(training, words, self._latent, self._latent)
            with torch.inference_mode():
                decoded = self._vae.decode(self._model.model.process_latent_out(latents.clone()))
                return decoded[0].float().cpu().clamp(0.0, 1.0)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            LOG.warning("No preview after step %d: memory did not suffice. Training goes on.", training.steps_done)
            comfy.model_management.soft_empty_cache()
            return None


def _embeddings(clip: Any, name: str, text: str) -> Tensor:
    key = f"{name}.transformer.{EMBEDDINGS}"
    table = clip.patcher.get_key_patches(key)[key][0][0]
    with torch.inference_mode(False):
        ids = noun_ids(clip, name, text.strip()) if text.strip() else []
        return table.detach().clone()[ids].float().cpu() if ids else torch.zeros(0, table.shape[1])
