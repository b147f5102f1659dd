"""What the painters of contexts share: the canvas, its coordinates, noise, colours and small shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE_PX = 320
"""Side of the square canvas of a background."""
TURN = 6.0
"""Range of a random phase in radians, nearly a full turn."""

Plane = NDArray[np.float32]  # [SIZE_PX, SIZE_PX]
Pixels = NDArray[np.float32]  # [SIZE_PX, SIZE_PX, 3], levels; below 0 and above 255 are clipped in the end
Colour = tuple[float, float, float]  # levels of red, green and blue, 0 ... 255
Ink = tuple[int, int, int]  # the same, as Pillow draws it
Painter = Callable[[np.random.Generator], Pixels]

Y, X = np.mgrid[0:SIZE_PX, 0:SIZE_PX].astype(np.float32)  # in pixels, from the top and from the left
U, V = X / SIZE_PX, Y / SIZE_PX  # the same as fractions of the canvas: across and down

_OCTAVE_GAIN = 0.55  # how much weaker each finer layer of clouds is


def clouds(rng: np.random.Generator, *cells: int) -> Plane:
    """Return smooth noise around zero: one layer for each number of cells a side, each weaker than the one before."""
    total = np.zeros((SIZE_PX, SIZE_PX), np.float32)
    gain = 1.0
    for count in cells:
        grid = rng.uniform(-1, 1, (count + 1, count + 1)).astype(np.float32)
        total += gain * np.asarray(Image.fromarray(grid).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))
        gain *= _OCTAVE_GAIN
    return total


def flat(colour: Colour, shade: Plane | float = 0.0) -> Pixels:
    """Return one colour all over, plus levels of grey: a number or a plane of them."""
    relief = shade[..., None] if isinstance(shade, np.ndarray) else shade
    return np.asarray(colour, np.float32) * np.ones((SIZE_PX, SIZE_PX, 1), np.float32) + relief


def gradient(stops: Sequence[tuple[float, Colour]]) -> Pixels:
    """Return colours that change from the top down, linearly between stops of (fraction of the height, colour)."""
    places = [place for place, _ in stops]
    colours = np.array([colour for _, colour in stops], np.float32)
    height = np.linspace(0, 1, SIZE_PX)
    column = np.stack([np.interp(height, places, colours[:, channel]) for channel in range(3)], -1)
    return np.repeat(column[:, None], SIZE_PX, 1).astype(np.float32)


def grey(shade: Plane) -> Pixels:
    """Return a plane of levels as something to add to pixels. [SIZE_PX, SIZE_PX, 1]"""
    return shade[..., None]


def jitter(rng: np.random.Generator, colour: Colour, levels: float) -> Colour:
    """Return the colour with each channel moved by up to so many levels."""
    red, green, blue = (float(level + rng.uniform(-levels, levels)) for level in colour)
    return red, green, blue


def toned(base: Colour, span: Colour, tone: float) -> Ink:
    """Return the ink `base + tone · span`."""
    red, green, blue = (int(start + step * tone) for start, step in zip(base, span))
    return red, green, blue


def draw_on(pixels: Pixels) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return the pixels as an image, and what draws on it."""
    image = Image.fromarray(to_bytes(pixels))
    return image, ImageDraw.Draw(image)


def to_pixels(image: Image.Image) -> Pixels:
    """Return a painted image as levels that can be reckoned with."""
    return np.asarray(image, np.float32)


def to_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """Clip levels to 0 ... 255 and drop their fractions."""
    return np.clip(pixels, 0, 255).astype(np.uint8)


def disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: Ink) -> None:
    """Draw a filled circle around (x, y), in pixels."""
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def dots(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    count: int,
    radii: tuple[float, float],
    ink: Ink | Callable[[float], Ink],
    band: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Scatter discs.

    Args:
        draw: what draws on the canvas.
        rng: where they fall, how large they are and of which tone.
        count: how many.
        radii: smallest and largest, in pixels.
        ink: of all, or a function of a disc's tone, 0 ... 1.
        band: highest and lowest place of a centre, as fractions of the height.
    """
    smallest, largest = radii
    top, bottom = band
    for x, y, size, tone in rng.uniform(0, 1, (count, 4)):
        radius = smallest + (largest - smallest) * size
        place = (top + (bottom - top) * y) * SIZE_PX
        disc(draw, x * SIZE_PX, place, radius, ink(tone) if callable(ink) else ink)
