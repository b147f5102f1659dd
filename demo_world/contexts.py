"""The textured backgrounds of the demo world, one function per context, all drawn from an explicit generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE_PX = 128
Pixels = NDArray[np.float32]  # [SIZE_PX, SIZE_PX, 3], 0 ... 255

_Y, _X = np.mgrid[0:SIZE_PX, 0:SIZE_PX].astype(np.float32)


def _clouds(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Smooth noise of about unit range around zero; more `cells` make finer structure. [SIZE_PX, SIZE_PX]"""
    grid = rng.uniform(-1.0, 1.0, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))


def _tint(rgb: tuple[float, float, float], shade: NDArray[np.float32]) -> Pixels:
    """A flat colour plus a grey relief of `shade` levels."""
    return np.asarray(rgb, dtype=np.float32) + shade[..., None]


def _draw_on(pixels: Pixels) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")
    return image, ImageDraw.Draw(image)


def studio(rng: np.random.Generator) -> Pixels:
    """A plain pastel backdrop, a little darker towards the bottom."""
    rgb = 205.0 + rng.uniform(-22.0, 28.0, 3)
    return _tint((rgb[0], rgb[1], rgb[2]), -18.0 * (_Y / SIZE_PX) ** 2)


def grass(rng: np.random.Generator) -> Pixels:
    """Green meadow with blades."""
    image, draw = _draw_on(_tint((86.0, 158.0, 62.0), 12.0 * _clouds(rng, 5)))
    for x, y, lean, tone in rng.uniform(0.0, 1.0, (90, 4)):
        left, top = x * SIZE_PX, y * (SIZE_PX + 10)
        colour = (int(50 + 80 * tone), int(120 + 85 * tone), int(35 + 45 * tone))
        draw.line((left, top, left + 6 * (lean - 0.5), top - 11), fill=colour, width=2)
    return np.asarray(image, dtype=np.float32)


def snow(rng: np.random.Generator) -> Pixels:
    """White drifts with falling flakes."""
    drift = 7.0 * np.sin(_Y / 9.0 + 2.5 * _clouds(rng, 3))
    image, draw = _draw_on(_tint((214.0, 226.0, 242.0), drift))
    for x, y, size in rng.uniform(0.0, 1.0, (34, 3)):
        radius = 1.2 + 2.0 * size
        cx, cy = x * SIZE_PX, y * SIZE_PX
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=(255, 255, 255))
    return np.asarray(image, dtype=np.float32)


def sand(rng: np.random.Generator) -> Pixels:
    """Yellow dunes with wind ripples and pebbles."""
    slope = rng.uniform(-0.35, 0.35)
    ripples = 12.0 * np.sin(_Y / 3.2 + slope * _X / 3.2 + 3.0 * _clouds(rng, 4))
    image, draw = _draw_on(_tint((226.0, 194.0, 128.0), ripples))
    for x, y, tone in rng.uniform(0.0, 1.0, (14, 3)):
        cx, cy = x * SIZE_PX, y * SIZE_PX
        draw.ellipse((cx - 2, cy - 1.5, cx + 2, cy + 1.5), fill=(int(150 + 40 * tone), int(118 + 36 * tone), 74))
    return np.asarray(image, dtype=np.float32)


def night(rng: np.random.Generator) -> Pixels:
    """Dark blue sky with stars and a moon."""
    shade = 26.0 * (_Y / SIZE_PX) + 5.0 * _clouds(rng, 4)
    image, draw = _draw_on(_tint((16.0, 20.0, 58.0), shade))
    for x, y, size in rng.uniform(0.0, 1.0, (26, 3)):
        radius = 0.8 + 0.9 * size
        cx, cy = x * SIZE_PX, y * SIZE_PX
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=(250, 246, 205))
    mx, my = (20.0 if rng.random() < 0.5 else 108.0) + rng.uniform(-6, 6), 18.0 + rng.uniform(-4, 4)
    draw.ellipse((mx - 10, my - 10, mx + 10, my + 10), fill=(246, 238, 190))
    draw.ellipse((mx - 5, my - 13, mx + 15, my + 7), fill=(20, 24, 62))
    return np.asarray(image, dtype=np.float32)


def brick(rng: np.random.Generator) -> Pixels:
    """A wall of red-brown bricks with pale mortar."""
    image, draw = _draw_on(_tint((196.0, 186.0, 174.0), 4.0 * _clouds(rng, 5)))
    width, height = 32, 16
    left, top = rng.integers(0, width), rng.integers(0, height)
    for row in range(-1, 10):
        for column in range(-2, 6):
            x = column * width + left + (row % 2) * width // 2
            y = row * height + top - height
            tone = rng.uniform(-16.0, 16.0)
            draw.rectangle(
                (x + 1, y + 1, x + width - 2, y + height - 2),
                fill=(int(166 + tone), int(86 + 0.6 * tone), int(66 + 0.5 * tone)),
            )
    return np.asarray(image, dtype=np.float32)


def wood(rng: np.random.Generator) -> Pixels:
    """Upright planks with grain and dark joints."""
    grain = 9.0 * np.sin(_X / 2.6 + 4.0 * _clouds(rng, 4))
    pixels = _tint((172.0, 120.0, 72.0), grain)
    width, left = 26, rng.integers(0, 26)
    for plank in range(-1, 6):
        start, stop = max(0, plank * width + left), min(SIZE_PX, (plank + 1) * width + left)
        if start < stop:
            pixels[:, start:stop] += rng.uniform(-20.0, 20.0)
            pixels[:, start : min(start + 2, SIZE_PX)] *= 0.5
    return pixels


def water(rng: np.random.Generator) -> Pixels:
    """Blue water with bright wave crests."""
    phase = _Y / 4.5 + 1.8 * np.sin(_X / 11.0 + rng.uniform(0, 6.28)) + 2.0 * _clouds(rng, 3)
    crest = np.clip(np.sin(phase) - 0.55, 0.0, None) * 150.0
    return _tint((38.0, 128.0, 190.0), crest + 10.0 * _clouds(rng, 4))


def carpet(rng: np.random.Generator) -> Pixels:
    """Red carpet with a lattice of golden diamonds."""
    step = 32.0
    dx = np.abs((_X + rng.uniform(0, step)) % step - step / 2)
    dy = np.abs((_Y + rng.uniform(0, step)) % step - step / 2)
    ring = np.abs(dx + dy - 10.0) < 2.2
    pixels = _tint((176.0, 24.0, 40.0), 8.0 * _clouds(rng, 6))
    pixels[ring] = (214.0, 158.0, 70.0)
    return pixels


PAINTERS: dict[str, Callable[[np.random.Generator], Pixels]] = {
    "": studio,
    "on grass": grass,
    "in the snow": snow,
    "on sand": sand,
    "at night": night,
    "on a brick wall": brick,
    "on a wooden floor": wood,
    "in the water": water,
    "on a red carpet": carpet,
}


def paint_context(context: str, rng: np.random.Generator) -> Pixels:
    """Draw the background named by a context phrase.

    Raises:
        ValueError: the phrase is not a context of this world.
    """
    if context not in PAINTERS:
        raise ValueError(f"Unknown context {context!r}; choose one of {sorted(PAINTERS)}.")
    return PAINTERS[context](rng)
