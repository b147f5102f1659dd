"""How many vectors a concept learns: (M, L, S) of the paper."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserInputError

MOST_VECTORS = 16


@dataclass(frozen=True)
class ICOScheme:
    """How many vectors are learned: (M, L, S) of the paper.

    Args:
        prefix: M, image contexts before the concept, 0 … 16.
        suffix: L, image contexts after the noun, 0 … 16. M + L improves the whole trade-off curve.
        concept_vectors: S, vectors of V*, 1 … 16. More raise fidelity and lower editability.

    (1, 1, 3) is meant for use with DCI, (4, 2, 2) for use alone.
    """

    prefix: int = 1
    suffix: int = 1
    concept_vectors: int = 3

    def __post_init__(self) -> None:
        for name, least in (("prefix", 0), ("suffix", 0), ("concept_vectors", 1)):
            value = getattr(self, name)
            if not least <= value <= MOST_VECTORS:
                raise UserInputError(
                    f"The scheme's {name} must be between {least} and {MOST_VECTORS}, but got {value}."
                )

    @property
    def contexts(self) -> int:
        """M + L."""
        return self.prefix + self.suffix
