"""What a picture shows: the ground truth, how often each thing occurs, and the caption that says it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from demo_world.vocabulary import COLOURS, CONTEXTS, NOUN_OF, NOUNS, PHOTO, STYLES, with_article


@dataclass(frozen=True)
class Scene:
    """Ground truth of one picture.

    Args:
        exemplar: sprite of the main object, a key of NOUN_OF.
        companion: sprite of a smaller second object with another class noun; None is neutral.
        context: a phrase of CONTEXTS; "" is the plain studio backdrop.
        style: a phrase of STYLES.
        colour: a key of COLOURS; "" leaves the main object its own colours.

    Raises:
        ValueError: a word is none of this world's, or both objects have the same class noun.
    """

    exemplar: str
    companion: str | None = None
    context: str = ""
    style: str = PHOTO
    colour: str = ""

    def __post_init__(self) -> None:
        _check("exemplar", self.exemplar, NOUN_OF)
        _check("companion", self.companion, (None, *NOUN_OF))
        _check("context", self.context, CONTEXTS)
        _check("style", self.style, STYLES)
        _check("colour", self.colour, COLOURS)
        if self.second_noun == self.noun:
            raise ValueError(
                f"The companion must have another class noun than the exemplar, but {self.exemplar!r} and "
                f"{self.companion!r} are both a {self.noun}; choose another companion."
            )

    @property
    def noun(self) -> str:
        """Class noun of the main object."""
        return NOUN_OF[self.exemplar]

    @property
    def second_noun(self) -> str | None:
        """Class noun of the companion, or None."""
        return None if self.companion is None else NOUN_OF[self.companion]


def _check(field: str, value: str | None, allowed: Collection[str | None]) -> None:
    if value not in allowed:
        raise ValueError(f"Expected {field} to be one of {list(allowed)}, but got {value!r}.")


def caption(scene: Scene) -> str:
    """Spell a scene, e.g. "photo of a turtle with an apple on grass"."""
    subject = with_article(f"{scene.colour} {scene.noun}".strip())
    companion = f"with {with_article(scene.second_noun)}" if scene.second_noun else ""
    return " ".join(part for part in (scene.style, subject, companion, scene.context) if part)


def caption_variants(scene: Scene) -> tuple[str, str, str]:
    """Three spellings of a scene: the caption, with an article in front, and for photos without "photo of"."""
    plain = caption(scene)
    bare = plain.removeprefix(f"{PHOTO} ") if scene.style == PHOTO else plain
    return plain, with_article(plain), bare


@dataclass(frozen=True)
class Shares:
    """How often things occur, each 0 … 1 and independent of the others.

    Args:
        studio: plain backdrops; the other contexts are equally likely.
        companion: pictures with a second object.
        styled: pictures that are no photo; the other styles are equally likely.
        coloured: pictures whose main object has one of the colours.
    """

    studio: float = 0.06
    companion: float = 0.3
    styled: float = 0.3
    coloured: float = 0.15


TRAINING_SHARES = Shares()
TRAINING_SPRITES: tuple[tuple[str, ...], ...] = tuple(NOUNS.values())
ALL_SPRITES: tuple[tuple[str, ...], ...] = tuple(
    tuple(sprite for sprite, its_noun in NOUN_OF.items() if its_noun == noun) for noun in NOUNS
)


def sample_scene(
    rng: np.random.Generator,
    shares: Shares = TRAINING_SHARES,
    sprites: Sequence[Sequence[str]] = TRAINING_SPRITES,
) -> Scene:
    """Draw a scene: nouns equally likely, then their sprites, each trait independently.

    Args:
        rng: all randomness.
        shares: how often each trait occurs.
        sprites: to choose from, a group a noun; ALL_SPRITES has the custom subjects among them.
    """
    first, second = rng.choice(len(sprites), size=2, replace=False)
    chance = rng.random(4)
    exemplar, companion = (group[int(rng.integers(len(group)))] for group in (sprites[first], sprites[second]))
    context = CONTEXTS[0 if chance[0] < shares.studio else int(rng.integers(1, len(CONTEXTS)))]
    style = STYLES[int(rng.integers(1, len(STYLES))) if chance[2] < shares.styled else 0]
    colour = tuple(COLOURS)[int(rng.integers(1, len(COLOURS))) if chance[3] < shares.coloured else 0]
    return Scene(exemplar, companion if chance[1] < shares.companion else None, context, style, colour)
