"""Seeds as the host has them: 0 … 2⁶⁴ - 1."""

from __future__ import annotations

LARGEST_SEED = 2**64 - 1


def following_seed(seed: int, number: int) -> int:
    """Return the seed so many places after another; behind the largest comes 0."""
    return (seed + number) % (LARGEST_SEED + 1)
