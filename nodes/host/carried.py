"""Which concepts a MODEL carries, to notice a conditioning that speaks of one that it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...dci_core.fingerprint import tensors_hash

_KEY = "dci_concepts"


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


def carry(model: Any, mark: str) -> None:
    """Note on a MODEL, a clone of one's own, that it carries a concept; its clones carry it too."""
    model.set_attachments(_KEY, (*_carried(model), mark))


def not_carried(model: Any, spoken: Iterable[SpokenConcept]) -> list[str]:
    """Return the names of the concepts that a MODEL does not carry, each once."""
    return list(dict.fromkeys(each.name for each in spoken if each.mark not in _carried(model)))


def _carried(model: Any) -> tuple[str, ...]:
    return tuple(model.attachments.get(_KEY, ()))
