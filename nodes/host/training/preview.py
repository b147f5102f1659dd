"""Preview pictures of a run: drawn by the network in training, decoded by the host's VAE; never a second copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.prompt.words import add_class_noun, no_placeholder, placeholder_pattern
from ....dci_core.setting import check_settings, setting
from ....dci_core.training.concept_training import ConceptTraining
from ....dci_core.training.ico import template_prompt
from ....dci_core.training.preview import preview_latents
from ..model import HostModel
from ..tokenizer import noun_ids
from ..weights import patched_weight, weight_entry
from .autoencoder import decoded
from .inputs import TrainingInputs
from .memory import is_out_of_memory
from .networks import EMBEDDINGS


@dataclass(frozen=True)
class PreviewPlan:
    """When and what is drawn.

    Raises:
        UserInputError: a value is outside its range.
    """

    every: int = field(
        default=0,
        metadata=setting(
            "Steps between pictures of V* on the node, drawn by the model in training; each costs about as much as ten "
            "steps.",
            "0 draws none.",
            allowed=(0, 100_000),
            name="preview_every",
        ),
    )
    prompt: str = field(
        default="",
        metadata=setting(
            "What is drawn, with V* in it; a class noun that is left out is added.",
            'Empty: "photo of a V* <class noun>".',
            name="preview_prompt",
        ),
    )

    def __post_init__(self) -> None:
        check_settings(self)


class Previewer:
    """Draw what the concept gives so far. Make it inside the executor's inference mode, before training.

    Args:
        base: what is trained on.
        plan: when and what.
        inputs: of the run; noun, placeholder and resolution are used.
        concept_vectors: S of the run.

    Raises:
        UserInputError: the prompt has no placeholder, or is too long.
    """

    def __init__(self, base: HostModel, plan: PreviewPlan, inputs: TrainingInputs, concept_vectors: int) -> None:
        self._base = base
        self._every = plan.every
        resolution = base.family.resolution(inputs.resolution)
        self._latent_size = base.family.latent_shape(resolution)[1:]
        placeholder = inputs.placeholder
        given = plan.prompt.strip() or template_prompt(f"{placeholder} {inputs.class_noun}")
        prompt = add_class_noun(given, placeholder, inputs.class_noun)
        texts = placeholder_pattern([placeholder]).split(prompt)
        if len(texts) == 1:
            raise UserInputError(
                f"The preview prompt {prompt!r} {no_placeholder(prompt, placeholder)}. Write {placeholder} into it."
            )
        self._words = {name: tuple(_embeddings(base.clip, name, text) for text in texts) for name in base.tokenizers}
        for name, parts in self._words.items():
            most = base.tokenizers[name].max_length - 2  # beside the start and the end
            tokens = sum(len(part) for part in parts) + (len(parts) - 1) * concept_vectors
            if tokens > most:
                raise UserInputError(
                    f"The preview prompt {prompt!r} has {tokens} tokens, {placeholder} counting {concept_vectors}; {most} fit. "
                    "Shorten it."
                )

    def is_due(self, step: int) -> bool:
        """Whether a picture is to be drawn after a step."""
        return bool(self._every) and step % self._every == 0

    def draw(self, training: ConceptTraining, warn: Callable[[str], None]) -> Tensor | None:
        """Return a picture [height, width, 3], values 0 … 1; None when there can be none, of which ``warn`` is told why."""
        step = training.steps_done
        try:
            device = next(iter(training.prompts.tokens.values())).device
            words = {name: tuple(part.to(device) for part in parts) for name, parts in self._words.items()}
            latents = preview_latents(training, words, *self._latent_size)
            with torch.inference_mode():
                unscaled = self._base.model.model.process_latent_out(latents.clone())
                return decoded(self._base.vae, unscaled, "The picture").float().cpu().clamp(0.0, 1.0)
        except UserInputError as error:
            self._every = 0  # the next would be no better
            warn(f"No preview after step {step}, nor later: {error} Training goes on.")
            return None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            warn(f"No preview after step {step}: memory did not suffice. Training goes on.")
            comfy.model_management.soft_empty_cache()
            return None


def _embeddings(clip: Any, name: str, text: str) -> Tensor:
    key = f"{name}.transformer.{EMBEDDINGS}"
    with torch.inference_mode(False):
        table = patched_weight(key, weight_entry(clip.patcher, key)[:1])
        ids = noun_ids(clip, name, text.strip()) if text.strip() else []
        return table[ids].float() if ids else torch.zeros(0, table.shape[1])
