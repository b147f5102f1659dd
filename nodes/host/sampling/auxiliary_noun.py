"""Score common nouns against a prompt with the host's text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ....dci_core.prompt.auxiliary_noun import (
    COMMON_NOUNS,
    NEUTRAL_CONTEXT,
    NEUTRAL_PROMPT,
    NounChoice,
    best_noun,
    context_fit,
    first_unrelated_noun,
    unrelated_nouns,
)
from ....dci_core.prompt.words import replace_placeholder
from ..tokenizer import real_tokens

BATCH = 16  # texts that are encoded together

_neutral: WeakKeyDictionary[Any, dict[Any, Tensor]] = WeakKeyDictionary()
"""Vectors of the neutral prompts by text encoder; they depend on nothing the user writes."""


def choose_noun(clip: Any, template: str, placeholder: str, taken: str) -> NounChoice:
    """Return the common noun that fits the rest of the prompt best.

    Args:
        clip: the CLIP that will encode the prompt.
        template: the prompt with the placeholder where the noun goes, other concepts as plain words.
        placeholder: usually "V*".
        taken: words that the noun must not share: class nouns and other auxiliary nouns.
    """
    context = replace_placeholder(template, placeholder, "")
    if not any(letter.isalnum() for letter in context):
        return NounChoice(first_unrelated_noun(taken))
    nouns = unrelated_nouns(f"{taken} {context}")
    prompts = text_vectors(clip, [replace_placeholder(template, placeholder, noun) for noun in nouns] + [context])
    neutral = _neutral_vectors(clip)
    rows = [COMMON_NOUNS.index(noun) for noun in nouns]
    return best_noun(nouns, context_fit(prompts[:-1], prompts[-1], neutral[rows], neutral[-1]))


def text_vectors(clip: Any, texts: Sequence[str]) -> Tensor:
    """Return what the text encoder says of whole texts: the row of their end token, [N, D], float32 on the CPU.

    Of a text of several chunks the last one counts. Several texts are encoded at once as chunks of one.
    """
    return torch.cat([_vectors(clip, texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)])


def _vectors(clip: Any, texts: Sequence[str]) -> Tensor:
    joined: dict[str, list[Any]] = {}
    ends, offset = [], 0
    for text in texts:
        chunks, tokens = real_tokens(clip, text)
        for name, rows in chunks.items():
            joined.setdefault(name, []).extend(rows)
        positions = [position for position, _ in next(iter(tokens.values()))]
        ends.append(offset + (positions[-1] if positions else 0) + 1)
        offset += sum(len(row) for row in next(iter(chunks.values())))
    encoded = clip.encode_from_tokens(joined)
    return encoded[0, ends].float().cpu()


def _neutral_vectors(clip: Any) -> Tensor:
    kept = _neutral.setdefault(clip.cond_stage_model, {})
    key = (clip.patcher.patches_uuid, clip.layer_idx)
    if key not in kept:
        kept.clear()
        kept[key] = text_vectors(clip, [NEUTRAL_PROMPT.format(noun) for noun in COMMON_NOUNS] + [NEUTRAL_CONTEXT])
    return kept[key]
