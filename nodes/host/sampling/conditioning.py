"""The positive conditioning that carries its auxiliary text along.

It travels inside the conditioning's own dictionary, so areas, masks, ControlNets and hooks that are
wired to the positive act on the auxiliary text too.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.prompt.auxiliary_noun import NounChoice
from ....dci_core.prompt.pairs import AUTO
from ....dci_core.prompt.tokens import TokenSet
from ..carried import SpokenConcept
from ..lora_strength import clip_at_strength
from .prompt_reading import read_prompt

CARRIED_KEY = "dci"
SHARED_OPTIONS = ("hooks", "clip_start_percent", "clip_end_percent")
"""Of what an encoder says beside its text, what is the branches' common: nodes change it later, for both."""


@dataclass(frozen=True)
class AuxiliaryText:
    """What a positive conditioning carries.

    Args:
        concept_cross_attn: the encoded prompt it was made for, [1, K', D], to notice what became of it.
        concept_options: what the encoder said beside it: pooled vector, attention masks, other encoders' ids.
        cross_attn: the encoded auxiliary prompt, [1, K, D].
        options: what the encoder said beside that.
        concept_tokens: T(P) within the conditioning.
        auxiliary_tokens: T(P_a) within ``cross_attn``.
        lora_strength: share of every LoRA's strength that the auxiliary branch runs with, 0 … 1; 1 is the same weights.
        is_text_weaker: whether the text encoder had a LoRA at that strength when it encoded the auxiliary prompt.
        spoken: the concepts that the prompt speaks of.
    """

    concept_cross_attn: Tensor
    concept_options: Mapping[str, Any]
    cross_attn: Tensor
    options: Mapping[str, Any]
    concept_tokens: TokenSet
    auxiliary_tokens: TokenSet
    lora_strength: float = 1.0
    is_text_weaker: bool = False
    spoken: tuple[SpokenConcept, ...] = ()

    @property
    def pooled_output(self) -> Tensor | None:
        """The auxiliary prompt's pooled vector, [1, D'], or None."""
        return self.options.get("pooled_output")

    def swapped_into(self, cond: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of a sampling condition with the auxiliary text, and all that its encoder said, in place of its own.

        What a node has set since then stays.

        Raises:
            UserInputError: the condition's own text was changed after it was encoded.
        """
        own = {key for key in self.concept_options if key not in SHARED_OPTIONS and self._is_as_encoded(key, cond)}
        twin = {key: value for key, value in cond.items() if key not in (CARRIED_KEY, *own)}
        twin |= {key: value for key, value in self.options.items() if key in own or key not in cond}
        text = torch.cat([self.cross_attn, self._appended_to(cond["cross_attn"])], dim=1)
        return twin | {"cross_attn": text, "uuid": uuid.uuid4(), "model_conds": dict(cond["model_conds"])}

    def _is_as_encoded(self, key: str, cond: Mapping[str, Any]) -> bool:
        known, present = self.concept_options[key], cond.get(key)
        if isinstance(known, Tensor) and isinstance(present, Tensor):
            return known.shape == present.shape and torch.equal(known, present.to(known))
        return known is present or (not isinstance(present, Tensor) and bool(known == present))

    def _appended_to(self, text: Tensor) -> Tensor:
        own = self.concept_cross_attn.to(text)
        length = own.shape[1]
        if not torch.equal(text[:, :length], own):
            raise UserInputError(
                "The positive's text was changed after AuxPromptBuilder, by ConditioningAverage, ConditioningMultiply or a node "
                "like them. DCI cannot do the same to the auxiliary prompt: take that node out, or set active_fraction to 0. "
                "ConditioningConcat and ConditioningCombine work."
            )
        return text[:, length:].to(self.cross_attn)


@dataclass(frozen=True)
class BuiltConditioning:
    """A host CONDITIONING and how it was made.

    Args:
        conditioning: for a sampler.
        concept_text: P as it was read.
        auxiliary_text: P_a.
        choices: how "auto" chose its auxiliary nouns.
        warnings: on what is read otherwise than it seems to be meant.
        class_noun_added: whether a class noun was added to the prompt that was given.
    """

    conditioning: list[Any]
    concept_text: str
    auxiliary_text: str
    choices: tuple[NounChoice, ...] = ()
    warnings: tuple[str, ...] = ()
    class_noun_added: bool = False

    def remarks(self) -> list[str]:
        """Return what the user should be told of it; the prompt, which may hold anything, last."""
        read = [f"read as: {self.concept_text}"] if self.class_noun_added else []
        return [*(choice.text() for choice in self.choices), *self.warnings, *read]


def build_conditioning(
    clip: Any,
    prompt: str,
    auxiliary_noun: str = AUTO,
    entire_prompt: bool = True,
    class_noun: str = "",
    subject: str = "",
    auxiliary_lora_strength: float = 1.0,
) -> BuiltConditioning:
    """Encode a prompt and its auxiliary prompt into one positive conditioning.

    Args:
        clip: any CLIP; one that knows a concept where ``subject`` is "".
        prompt: with the subject's words in it; or the concept's placeholder, several concepts' placeholders, or the names of
            concept files among the embeddings, whose class nouns are added where it leaves them out, unless the CLIP was told
            not to.
        auxiliary_noun: a common noun, or "auto"; for several concepts one for each, with commas between them.
        entire_prompt: False is the paper's "w/o entire prompt" ablation.
        class_noun: the plain word for the subject, where neither a concept nor the words say it; "" is none.
        subject: the words of the prompt that name it, such as "sks dog"; "" are the concepts that the CLIP knows.
        auxiliary_lora_strength: how much of every LoRA's strength the auxiliary branch has, 0 … 1; 1 is the same weights
            for both.

    Raises:
        UserInputError: no subject, or a prompt, noun or strength that cannot be used.
    """
    if not 0.0 <= auxiliary_lora_strength <= 1.0:
        raise UserInputError(
            f"auxiliary_lora_strength is {auxiliary_lora_strength:g}. It is a share of the LoRA's strength: take 0 … 1."
        )
    read = read_prompt(clip, prompt, auxiliary_noun, entire_prompt, class_noun, subject)
    weakened = clip_at_strength(read.clip, auxiliary_lora_strength)
    conditioning = read.clip.encode_from_tokens_scheduled(read.concept.chunks)
    auxiliary = weakened.encode_from_tokens_scheduled(read.auxiliary.chunks)
    carried = []
    for (cond, options), (other, other_options) in zip(conditioning, auxiliary, strict=True):
        text = AuxiliaryText(
            concept_cross_attn=cond,
            cross_attn=other,
            concept_options=dict(options),
            options=other_options,
            concept_tokens=read.concept.tokens,
            auxiliary_tokens=read.auxiliary.tokens,
            lora_strength=auxiliary_lora_strength,
            is_text_weaker=weakened is not read.clip,
            spoken=read.spoken,
        )
        carried.append([cond, {**options, CARRIED_KEY: text}])
    return BuiltConditioning(
        carried, read.concept.text, read.auxiliary.text, read.choices, read.warnings, read.class_noun_added
    )
