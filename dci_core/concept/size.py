"""How large the file of a concept is, before it is written."""

from __future__ import annotations

from torch import Tensor

from .concept import Concept
from .file import PRECISIONS

MOST_METADATA_BYTES = 1_000_000
"""Room for the metadata, whose history grows with the steps."""


def most_file_bytes(concept: Concept, precision: str, rank: int = 0) -> int:
    """Return how large the file that ``save_concept`` writes can be.

    Args:
        concept: to be written.
        precision: of the K/V deltas, one of ``PRECISIONS``.
        rank: of the two factors of each delta; 0 for whole ones.
    """
    vectors = [*concept.tokens.values(), *(concept.contexts or {}).values()]
    weights = sum(_kept_values(delta, rank) for delta in concept.deltas.values()) * PRECISIONS[precision].itemsize
    graph = 2 * sum(map(len, concept.graph.values()))  # quotes are written as two bytes, and there is little else
    return weights + 4 * sum(some.numel() for some in vectors) + graph + MOST_METADATA_BYTES


def _kept_values(delta: Tensor, rank: int) -> int:
    return min(rank, *delta.shape) * sum(delta.shape) if rank else delta.numel()
