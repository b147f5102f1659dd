"""The words of the demo world: class nouns, contexts, styles and colours, and how captions are spelled."""

from __future__ import annotations

# Class noun -> the Noto Color Emoji character that draws it. Order is the label order of the classifier.
NOUNS: dict[str, str] = {
    "cat": "\U0001f431",
    "dog": "\U0001f436",
    "bear": "\U0001f43b",
    "frog": "\U0001f438",
    "turtle": "\U0001f422",
    "fish": "\U0001f420",
    "bird": "\U0001f426",
    "butterfly": "\U0001f98b",
    "apple": "\U0001f34e",
    "mushroom": "\U0001f344",
    "pumpkin": "\U0001f383",
    "flower": "\U0001f33b",
    "tree": "\U0001f333",
    "house": "\U0001f3e0",
    "car": "\U0001f697",
    "boat": "\U0001f6a2",
    "robot": "\U0001f916",
    "umbrella": "\u2602",
    "ball": "\u26bd",
    "cup": "\u2615",
}

# The empty phrase is a plain studio backdrop: the background of most reference photos.
CONTEXTS: tuple[str, ...] = (
    "",
    "on grass",
    "in the snow",
    "on sand",
    "at night",
    "on a brick wall",
    "on a wooden floor",
    "in the water",
    "on a red carpet",
)

STYLES: tuple[str, ...] = ("photo of", "pixel art of", "sketch of", "black and white photo of")

# Colour adjective -> hue in degrees; the empty adjective leaves the noun's own colours.
COLOURS: dict[str, float | None] = {"": None, "red": 0.0, "green": 115.0, "blue": 220.0, "purple": 285.0}


def with_article(phrase: str) -> str:
    """Return `phrase` with the indefinite article in front, e.g. "apple" -> "an apple"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
