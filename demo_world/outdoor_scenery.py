"""Painters of contexts on open ground: meadows, snow, water, woods, mountains, roads and a city."""

from __future__ import annotations

import math

import numpy as np
from PIL import ImageDraw

from demo_world.painting_tools import (
    SIZE_PX,
    TURN,
    Ink,
    Pixels,
    U,
    V,
    clouds,
    disc,
    dots,
    draw_on,
    flat,
    gradient,
    grey,
    to_pixels,
    toned,
)

LEAF_INKS: tuple[Ink, ...] = ((214, 96, 28), (232, 150, 36), (180, 48, 26), (240, 190, 60), (150, 80, 30))
PETAL_INKS: tuple[Ink, ...] = ((236, 70, 90), (250, 210, 70), (240, 240, 250), (170, 90, 220), (250, 140, 60))


def grass(rng: np.random.Generator) -> Pixels:
    """A green meadow with blades, longer towards the viewer."""
    ground = gradient([(0, (120, 185, 90)), (1, (62, 132, 44))])
    image, draw = draw_on(ground + grey(10 * clouds(rng, 6, 20)))
    for u, v, lean, tone in rng.uniform(0, 1, (900, 4)):
        length = 6 + 14 * v
        x, y = u * SIZE_PX, v * (SIZE_PX + 20)
        ink = toned((50, 120, 30), (90, 90, 50), tone)
        draw.line((x, y, x + 10 * (lean - 0.5), y - length), fill=ink, width=2)
    return to_pixels(image)


def snow(rng: np.random.Generator) -> Pixels:
    """White drifts with falling flakes."""
    ground = gradient([(0, (196, 212, 236)), (0.45, (214, 226, 242)), (1, (246, 250, 255))])
    drifts = 9 * np.sin(V * 26 + 3 * clouds(rng, 3)) * (V > 0.4)
    image, draw = draw_on(ground + grey(drifts))
    dots(draw, rng, 120, (1.5, 4.5), (255, 255, 255))
    return to_pixels(image)


def beach(rng: np.random.Generator) -> Pixels:
    """Sky, sea, a line of foam and rippled sand with pebbles."""
    shore = 0.30 + 0.03 * np.sin(U * 7 + rng.uniform(0, TURN))
    sea = (70, 180, 205)
    sky_and_sea = gradient(
        [(0, (120, 196, 236)), (0.18, (170, 220, 240)), (0.181, (36, 140, 190)), (0.30, sea), (1, sea)]
    )
    sand = flat((236, 206, 150), 8 * np.sin(V * 60 + 5 * U + 4 * clouds(rng, 4)) + 6 * clouds(rng, 30))
    pixels = np.where((shore < V)[..., None], sand, sky_and_sea)
    pixels[np.abs(V - shore) < 0.012] = 250
    image, draw = draw_on(pixels)
    dots(draw, rng, 30, (1, 3), lambda tone: toned((170, 140, 96), (50, 40, 0), tone), band=(0.4, 1))
    return to_pixels(image)


def water(rng: np.random.Generator) -> Pixels:
    """Blue water with bright wave crests."""
    phase = V * 46 + 1.8 * np.sin(U * 16 + rng.uniform(0, TURN)) + 2.5 * clouds(rng, 4, 9)
    return flat((34, 126, 188), np.clip(np.sin(phase) - 0.5, 0, None) * 150 + 14 * clouds(rng, 5))


def forest(rng: np.random.Generator) -> Pixels:
    """Brown trunks under a canopy of leaves, with undergrowth."""
    air = gradient([(0, (150, 200, 130)), (0.6, (70, 120, 60)), (1, (46, 84, 38))])
    image, draw = draw_on(air + grey(12 * clouds(rng, 8, 20)))
    for _ in range(11):
        x, width, tone = rng.uniform(0, SIZE_PX), rng.uniform(10, 26), rng.uniform(0, 1)
        foot = SIZE_PX * rng.uniform(0.6, 0.85)
        draw.rectangle((x, 0, x + width, foot), fill=toned((70, 48, 28), (40, 26, 16), tone))
    dots(draw, rng, 150, (8, 22), lambda tone: toned((30, 90, 26), (50, 80, 40), tone), band=(0, 0.28))
    dots(draw, rng, 90, (3, 9), lambda tone: toned((40, 90, 36), (40, 60, 0), tone), band=(0.75, 1))
    return to_pixels(image)


def desert(rng: np.random.Generator) -> Pixels:
    """Three rippled dunes, each darker than the one behind, under a pale sun."""
    pixels = gradient([(0, (250, 200, 130)), (0.42, (255, 232, 180)), (0.43, (232, 170, 90)), (1, (206, 130, 60))])
    for dune in range(3):
        crest = 0.42 + 0.16 * dune + 0.06 * np.sin(U * rng.uniform(4, 8) + rng.uniform(0, TURN))
        sand = flat((236 - 16 * dune, 172 - 20 * dune, 92 - 14 * dune), 7 * np.sin(V * 70 + 5 * U))
        pixels = np.where((crest < V)[..., None], sand, pixels)
    image, draw = draw_on(pixels)
    x = rng.uniform(50, 270)
    disc(draw, x, 48, 24, (255, 246, 190))
    return to_pixels(image)


def city(rng: np.random.Generator) -> Pixels:
    """A row of houses with lit windows behind a street."""
    image, draw = draw_on(gradient([(0, (110, 150, 200)), (1, (210, 200, 190))]))
    x = -10.0
    while x < SIZE_PX:
        width, height, tone = rng.uniform(34, 62), rng.uniform(120, 270), rng.uniform(0, 1)
        roof = SIZE_PX - height - 40
        draw.rectangle((x, roof, x + width, SIZE_PX), fill=toned((70, 76, 92), (50, 46, 40), tone))
        _windows(draw, rng, x, x + width, SIZE_PX - height - 32)
        x += width + 3
    draw.rectangle((0, SIZE_PX - 44, SIZE_PX, SIZE_PX), fill=(78, 78, 84))
    return to_pixels(image)


def _windows(draw: ImageDraw.ImageDraw, rng: np.random.Generator, left: float, right: float, top: float) -> None:
    """Draw the windows of a house; some are missing, most are lit."""
    for y in np.arange(top, SIZE_PX - 48, 16):
        for x in np.arange(left + 5, right - 8, 12):
            if rng.random() < 0.7:
                ink = (255, 226, 130) if rng.random() < 0.6 else (150, 190, 220)
                draw.rectangle((x, y, x + 6, y + 8), fill=ink)


def mountain(rng: np.random.Generator) -> Pixels:
    """Two ranges of snow-capped peaks above a meadow."""
    image, draw = draw_on(gradient([(0, (120, 176, 230)), (1, (214, 232, 246))]))
    foot = SIZE_PX * 0.78
    for nearness, rock in enumerate(((150, 164, 186), (110, 124, 150))):
        for _ in range(3):
            x, height, width = rng.uniform(0, SIZE_PX), rng.uniform(130, 230) - 40 * nearness, rng.uniform(90, 150)
            peak = (x, foot - height)
            draw.polygon([(x - width, foot), peak, (x + width, foot)], fill=rock)
            edge = foot - height * 0.75
            notch = (x, foot - height * 0.68)
            draw.polygon([(x - width * 0.25, edge), peak, (x + width * 0.25, edge), notch], fill=(250, 252, 255))
    draw.rectangle((0, SIZE_PX * 0.76, SIZE_PX, SIZE_PX), fill=(96, 140, 84))
    return to_pixels(image) + grey(5 * clouds(rng, 20))


def autumn_leaves(rng: np.random.Generator) -> Pixels:
    """Pointed leaves in red, orange and yellow on brown ground."""
    image, draw = draw_on(flat((150, 92, 40), 10 * clouds(rng, 10)))
    for u, v, turn, size in rng.uniform(0, 1, (420, 4)):
        angle, length = turn * 6.28, 8 + 8 * size
        x, y = u * SIZE_PX, v * SIZE_PX
        leaf = [
            (x + length * math.cos(angle), y + length * math.sin(angle)),
            (x + 0.5 * length * math.cos(angle + 1.6), y + 0.5 * length * math.sin(angle + 1.6)),
            (x - length * math.cos(angle), y - length * math.sin(angle)),
            (x + 0.5 * length * math.cos(angle - 1.6), y + 0.5 * length * math.sin(angle - 1.6)),
        ]
        draw.polygon(leaf, fill=LEAF_INKS[int(rng.integers(0, len(LEAF_INKS)))])
    return to_pixels(image)


def road(rng: np.random.Generator) -> Pixels:
    """A road to the horizon with white edges and a broken yellow line."""
    pixels = gradient([(0, (150, 200, 236)), (0.38, (210, 230, 240)), (0.381, (110, 160, 84)), (1, (90, 140, 66))])
    middle = 0.5 + rng.uniform(-0.05, 0.05)
    aside = np.abs(U - middle)
    nearness = np.clip(V - 0.36, 0, None)
    is_ground = V > 0.38
    pixels[(aside < 0.02 + 0.62 * nearness) & is_ground] = (84, 86, 92)
    is_edge = np.abs(aside - (0.018 + 0.56 * nearness)) < 0.012 * (V + 0.2)
    pixels[is_edge & is_ground] = 236
    is_dash = np.sin(30 * np.log(np.clip(V - 0.3, 0.01, None)) + rng.uniform(0, TURN)) > 0
    pixels[(aside < 0.012 * (V + 0.1)) & is_dash & (V > 0.39)] = (250, 220, 90)
    return pixels + grey(4 * clouds(rng, 40))


def flower_field(rng: np.random.Generator) -> Pixels:
    """A meadow full of flowers with five petals, larger towards the viewer."""
    image, draw = draw_on(grass(rng))
    for u, v, _ in rng.uniform(0, 1, (170, 3)):
        radius, ink = 3 + 5 * v, PETAL_INKS[int(rng.integers(0, len(PETAL_INKS)))]
        x, y = u * SIZE_PX, v * SIZE_PX
        for petal in range(5):
            angle = petal * 1.257
            disc(draw, x + radius * math.cos(angle), y + radius * math.sin(angle), radius * 0.7, ink)
        disc(draw, x, y, radius * 0.5, (255, 220, 90))
    return to_pixels(image)
