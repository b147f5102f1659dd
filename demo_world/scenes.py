"""What a picture shows: the ground truth, how often each thing occurs, and the caption that says it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES, with_article

SECOND_NOUN_SHARE = 0.25
STYLED_SHARE = 0.3
COLOURED_SHARE = 0.15
STUDIO_SHARE = 0.08


@dataclass(frozen=True)
class Scene:
    """Ground truth of one picture.

    Args:
        noun: the main object, a key of NOUNS.
        second_noun: a smaller companion, or None.
        context: a phrase of CONTEXTS; "" is the plain studio backdrop.
        style: a phrase of STYLES.
        colour: a key of COLOURS; "" leaves the noun its own colours.
    """

    noun: str
    second_noun: str | None = None
    context: str = ""
    style: str = "photo of"
    colour: str = ""

    def __post_init__(self) -> None:
        _check("noun", self.noun, tuple(NOUNS))
        _check("second_noun", self.second_noun, (None, *NOUNS))
        _check("context", self.context, CONTEXTS)
        _check("style", self.style, STYLES)
        _check("colour", self.colour, tuple(COLOURS))
        if self.second_noun == self.noun:
            raise ValueError(f"second_noun must differ from noun, but both are {self.noun!r}; choose another one.")


def _check(field: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"Expected {field} to be one of {list(allowed)}, but got {value!r}.")


def caption(scene: Scene) -> str:
    """Spell a scene, e.g. "photo of a turtle with an apple on grass"."""
    subject = with_article(f"{scene.colour} {scene.noun}".strip())
    companion = f"with {with_article(scene.second_noun)}" if scene.second_noun else ""
    return " ".join(part for part in (scene.style, subject, companion, scene.context) if part)


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene as training sees them: each trait independently, by the shares above."""
    nouns = tuple(NOUNS)
    first, second = rng.choice(len(nouns), size=2, replace=False)
    chance = rng.random(4)
    context = 0 if chance[0] < STUDIO_SHARE else int(rng.integers(1, len(CONTEXTS)))
    style = int(rng.integers(1, len(STYLES))) if chance[1] < STYLED_SHARE else 0
    colour = int(rng.integers(1, len(COLOURS))) if chance[2] < COLOURED_SHARE else 0
    return Scene(
        noun=nouns[first],
        second_noun=nouns[second] if chance[3] < SECOND_NOUN_SHARE else None,
        context=CONTEXTS[context],
        style=STYLES[style],
        colour=tuple(COLOURS)[colour],
    )


def labels(scene: Scene) -> tuple[int, int, int, int, int]:
    """Class numbers (noun, second noun with 0 = none, context, style, colour) for the classifier's heads."""
    nouns = tuple(NOUNS)
    second = 0 if scene.second_noun is None else nouns.index(scene.second_noun) + 1
    return (
        nouns.index(scene.noun),
        second,
        CONTEXTS.index(scene.context),
        STYLES.index(scene.style),
        tuple(COLOURS).index(scene.colour),
    )


# Number of classes of each label, in the order of `labels`.
LABEL_SIZES: dict[str, int] = {
    "noun": len(NOUNS),
    "second_noun": len(NOUNS) + 1,
    "context": len(CONTEXTS),
    "style": len(STYLES),
    "colour": len(COLOURS),
}


def caption_variants(scene: Scene) -> tuple[str, str, str]:
    """Three spellings of a scene: the caption, with an article in front, and for photos without "photo of"."""
    plain = caption(scene)
    bare = plain.removeprefix("photo of ") if scene.style == "photo of" else plain
    return plain, with_article(plain), bare
