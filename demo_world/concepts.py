"""Custom concepts: objects the demo model has never seen, each with a class noun it knows.

Their glyphs are held out of training and altered (hue, pattern, badge), so that no caption of the demo world can
describe them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from demo_world.glyphs import SPRITE_PX, rotate_hue, sprite
from demo_world.scenes import Scene
from demo_world.vocabulary import NOUNS
from demo_world.world import draw

REFERENCE_CONTEXTS: tuple[str, ...] = ("", "", "", "", "on a wooden floor", "on grass")


@dataclass(frozen=True)
class Concept:
    """One custom subject.

    Args:
        name: short file-name-safe name.
        glyph: an emoji that no class noun uses.
        noun: its class noun, a key of NOUNS.
        difficulty: 1 looks much like its class, 2 shares a trait or two, 3 looks like nothing in training.
        hue_degrees: turn of all hues; 0 is neutral.
        pattern: "", "stripes", "dots" or "checks", in `paint_rgb`.
        badge: "", "star", "heart" or "disc", in `paint_rgb`.
        paint_rgb: colour of pattern and badge.
    """

    name: str
    glyph: str
    noun: str
    difficulty: int
    hue_degrees: float = 0.0
    pattern: str = ""
    badge: str = ""
    paint_rgb: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        if self.noun not in NOUNS:
            raise ValueError(
                f"Expected the noun of concept {self.name!r} to be one of {list(NOUNS)}, got {self.noun!r}."
            )
        if self.glyph in NOUNS.values():
            raise ValueError(f"The glyph of concept {self.name!r} is used in training; choose one that is not.")


CONCEPTS: tuple[Concept, ...] = (
    Concept("violet_tiger", "\U0001f42f", "cat", 1, hue_degrees=230),
    Concept("teal_fox", "\U0001f98a", "dog", 1, hue_degrees=160),
    Concept("badged_panda", "\U0001f43c", "bear", 1, badge="heart", paint_rgb=(235, 60, 120)),
    Concept("striped_taxi", "\U0001f695", "car", 1, hue_degrees=250, pattern="stripes", paint_rgb=(250, 240, 90)),
    Concept("blue_castle", "\U0001f3f0", "house", 2, hue_degrees=190, badge="star", paint_rgb=(255, 210, 40)),
    Concept("checked_teddy", "\U0001f9f8", "bear", 2, hue_degrees=120, pattern="checks", paint_rgb=(240, 245, 210)),
    Concept("pink_duck", "\U0001f986", "bird", 2, hue_degrees=290, badge="star", paint_rgb=(255, 225, 60)),
    Concept("dotted_sailboat", "\u26f5", "boat", 2, hue_degrees=150, pattern="dots", paint_rgb=(255, 245, 130)),
    Concept("blue_tulip", "\U0001f337", "flower", 2, hue_degrees=240, pattern="stripes", paint_rgb=(255, 250, 200)),
    Concept("dotted_octopus", "\U0001f419", "fish", 3, hue_degrees=130, pattern="dots", paint_rgb=(250, 230, 80)),
    Concept("badged_amphora", "\U0001f3fa", "cup", 3, hue_degrees=175, badge="disc", paint_rgb=(250, 120, 40)),
    Concept("badged_lizard", "\U0001f98e", "turtle", 3, hue_degrees=150, badge="disc", paint_rgb=(255, 250, 240)),
)


def _stripes(pen: ImageDraw.ImageDraw) -> None:
    for offset in range(-SPRITE_PX, SPRITE_PX, 22):
        pen.line((offset, SPRITE_PX, offset + SPRITE_PX, 0), fill=255, width=8)


def _dots(pen: ImageDraw.ImageDraw) -> None:
    for row, y in enumerate(range(8, SPRITE_PX, 20)):
        for x in range(8 + 11 * (row % 2), SPRITE_PX, 22):
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=255)


def _checks(pen: ImageDraw.ImageDraw) -> None:
    for row in range(0, SPRITE_PX, 14):
        for column in range(0, SPRITE_PX, 14):
            if (row + column) // 14 % 2:
                pen.rectangle((column, row, column + 13, row + 13), fill=255)


PATTERNS: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {"stripes": _stripes, "dots": _dots, "checks": _checks}


def _badge_outline(badge: str) -> list[tuple[float, float]]:
    """Outline of a badge around the lower middle of the sprite, in pixels."""
    turn = np.linspace(0.0, 2.0 * np.pi, 60, endpoint=False)
    if badge == "heart":
        x = 16 * np.sin(turn) ** 3
        y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
    elif badge == "star":
        turn = np.linspace(0.0, 2.0 * np.pi, 10, endpoint=False)
        radius = np.where(np.arange(10) % 2 == 0, 20.0, 8.5)
        x, y = radius * np.sin(turn), -radius * np.cos(turn)
    else:
        x, y = 15 * np.sin(turn), 15 * np.cos(turn)
    return [(SPRITE_PX * 0.5 + float(dx), SPRITE_PX * 0.62 + float(dy)) for dx, dy in zip(x, y, strict=True)]


def concept_sprite(concept: Concept) -> Image.Image:
    """The altered glyph, RGBA, SPRITE_PX x SPRITE_PX."""
    image = rotate_hue(sprite(concept.glyph), concept.hue_degrees).copy()
    alpha = image.getchannel("A")
    flat = Image.new("RGB", image.size, concept.paint_rgb)
    if concept.pattern:
        mask = Image.new("L", image.size)
        PATTERNS[concept.pattern](ImageDraw.Draw(mask))
        shaded = ImageChops.multiply(
            flat, Image.merge("RGB", [image.convert("L").point(lambda v: min(255, 90 + v))] * 3)
        )
        image.paste(shaded, (0, 0), ImageChops.multiply(mask, alpha))
    if concept.badge:
        outline = _badge_outline(concept.badge)
        ImageDraw.Draw(image).polygon(outline, fill=(*concept.paint_rgb, 255), outline=(40, 40, 50, 255), width=3)
    return image


def reference_images(concept: Concept, rng: np.random.Generator, count: int = 6) -> list[NDArray[np.uint8]]:
    """Photos of a concept on plain and a few textured backgrounds, each [128, 128, 3], uint8.

    Args:
        concept: what to show.
        rng: place, size, tilt, flip, tints.
        count: number of photos, 1 ... 6.
    """
    scenes = [Scene(concept.noun, context=context) for context in REFERENCE_CONTEXTS[:count]]
    return [render_concept(concept, scene, rng) for scene in scenes]


def render_concept(concept: Concept, scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The true picture of a scene with the concept as its main object, [128, 128, 3], uint8.

    Raises:
        ValueError: the scene's noun is not the concept's class noun.
    """
    if scene.noun != concept.noun:
        raise ValueError(f"Concept {concept.name!r} is a {concept.noun}, but the scene shows a {scene.noun}.")
    return draw(scene, rng, concept_sprite(concept)).image
