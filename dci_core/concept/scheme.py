"""How many vectors a concept learns: (M, L, S) of the paper."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..setting import check_settings, setting

MOST_VECTORS = 16


@dataclass(frozen=True)
class ICOScheme:
    """How many vectors are learned: (M, L, S) of the paper. More contexts improve the whole trade-off curve.

    ``prefix`` and ``suffix`` are also keys of concept files; ICO Trainer's inputs call them ``contexts_before`` and
    ``contexts_after``.

    Raises:
        UserInputError: a number is outside its range.
    """

    prefix: int = field(
        default=1,
        metadata=setting(
            "M, image-specific vectors in front of V*: they take up what is peculiar to each photograph.",
            allowed=(0, MOST_VECTORS),
        ),
    )
    suffix: int = field(
        default=1,
        metadata=setting("L, image-specific vectors behind the noun.", allowed=(0, MOST_VECTORS)),
    )
    concept_vectors: int = field(
        default=3,
        metadata=setting(
            "S, vectors that V* stands for. More raise likeness and lower obedience.", allowed=(1, MOST_VECTORS)
        ),
    )

    def __post_init__(self) -> None:
        check_settings(self, "The scheme's ")

    @property
    def contexts(self) -> int:
        """M + L."""
        return self.prefix + self.suffix
