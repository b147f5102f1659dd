"""Which concepts a MODEL carries, to notice a conditioning that speaks of one that it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...dci_core.fingerprint import tensors_hash

_KEY, _TEXT_KEYS = "dci_concepts", ".attn2.to_k."


@dataclass(frozen=True)
class SpokenConcept:
    """A concept that a prompt speaks of.

    Args:
        name: as the prompt says it, such as "V* cat".
        mark: see ``mark_of``.
    """

    name: str
    mark: str


def mark_of(vectors: Mapping[str, Tensor | Sequence[Tensor]]) -> str:
    """Return what tells concepts apart, however they are called: a hash of their vectors.

    Args:
        vectors: per text encoder, [S, D] or its rows.
    """
    return tensors_hash((name, torch.stack(list(rows)).float()) for name, rows in vectors.items())


def carry(model: Any, mark: str, thumbnail: str = "") -> None:
    """Note on a MODEL, a clone of one's own, that it carries a concept, and its picture; its clones carry it too.

    Args:
        model: a host MODEL.
        mark: of the concept.
        thumbnail: its small picture as a data URL, or "".
    """
    model.set_attachments(_KEY, (*_carried(model), (mark, thumbnail)))


def not_carried(model: Any, spoken: Iterable[SpokenConcept]) -> list[str]:
    """Return the names of the concepts that a MODEL does not carry, each once.

    None where it carries no concept, but something else changes its text attention: a LoRA that the concept's file is too, or a
    merge, may be that very concept.
    """
    marks = [mark for mark, _ in _carried(model)]
    if not marks and any(_TEXT_KEYS in key for key in model.patches):
        return []
    return list(dict.fromkeys(each.name for each in spoken if each.mark not in marks))


def carried_thumbnails(model: Any) -> list[str]:
    """Return the pictures of the concepts that a MODEL carries, data URLs, of those that have one."""
    return [thumbnail for _, thumbnail in _carried(model) if thumbnail]


def _carried(model: Any) -> tuple[tuple[str, str], ...]:
    return tuple(model.attachments.get(_KEY, ()))
