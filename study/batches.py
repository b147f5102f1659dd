"""Several prompts in one sampler call: conditionings with a row for each picture, for one branch or two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY, AuxiliaryText
from torch import Tensor

Conditioning = list[Any]
"""The host's: entries of encoded text [1, K, D] and options."""


def batches(conditionings: Sequence[Conditioning], repeats: int, size: int) -> Iterator[tuple[list[int], Conditioning]]:
    """Put rows into batches that one sampler call can draw.

    With two branches a call has one pair of token sets, so only prompts whose words stand at the same places share one.

    Args:
        conditionings: one for each prompt, encoded alike.
        repeats: pictures of each prompt.
        size: most pictures of a batch, 1 or more.

    Yields:
        Numbers of rows, row ``repeats · prompt + repeat``, and the conditioning of these rows. Every row comes once.
    """
    groups: dict[Any, list[int]] = {}
    for number, conditioning in enumerate(conditionings):
        own = range(number * repeats, (number + 1) * repeats)
        groups.setdefault(_shape(conditioning), []).extend(own)
    for rows_of_group in groups.values():
        for start in range(0, len(rows_of_group), size):
            rows = rows_of_group[start : start + size]
            yield rows, stacked([conditionings[row // repeats] for row in rows])


def stacked(conditionings: Sequence[Conditioning]) -> Conditioning:
    """Return one conditioning whose rows are those of others that are shaped alike.

    Args:
        conditionings: one or more; what they say beside their text must be the same for all.

    Raises:
        ValueError: they are not shaped alike, or say different things beside their text.
    """
    if len({_shape(conditioning) for conditioning in conditionings}) != 1:
        raise ValueError("Only conditionings of the same shape, with their words at the same places, share a batch.")
    return [_stacked_entry(entries) for entries in zip(*conditionings, strict=True)]


def _shape(conditioning: Conditioning) -> Any:
    """What conditionings of one batch have in common."""
    return tuple((tuple(text.shape), _token_sets(options.get(CARRIED_KEY))) for text, options in conditioning)


def _token_sets(carried: AuxiliaryText | None) -> Any:
    return None if carried is None else (carried.concept_tokens, carried.auxiliary_tokens, carried.cross_attn.shape)


def _stacked_entry(entries: Sequence[Any]) -> list[Any]:
    options = _stacked_options([options for _, options in entries])
    return [torch.cat([text for text, _ in entries]), options]


def _stacked_options(options: Sequence[Any]) -> dict[str, Any]:
    if len({frozenset(one) for one in options}) != 1:
        raise ValueError("One of the conditionings says something beside its text that the others do not.")
    return {name: _joined(name, [one[name] for one in options]) for name in options[0]}


def _joined(name: str, values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, AuxiliaryText):
        return _stacked_text(values)
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if any(value != first for value in values):
        raise ValueError(f"The conditionings differ in {name}: {first!r} and others.")
    return first


def _stacked_text(texts: Sequence[AuxiliaryText]) -> AuxiliaryText:
    return replace(
        texts[0],
        concept_cross_attn=torch.cat([text.concept_cross_attn for text in texts]),
        concept_options=_stacked_options([text.concept_options for text in texts]),
        cross_attn=torch.cat([text.cross_attn for text in texts]),
        options=_stacked_options([text.options for text in texts]),
    )
