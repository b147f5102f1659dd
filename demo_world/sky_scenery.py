"""Painters of contexts that the sky makes: night, sunset, rain, clouds, space and the moon."""

from __future__ import annotations

import numpy as np

from demo_world.painting_tools import (
    SIZE_PX,
    TURN,
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
    jitter,
    to_pixels,
    toned,
)

WHITE = (255, 255, 255)


def night(rng: np.random.Generator) -> Pixels:
    """Dark blue sky with stars and a crescent moon on one side."""
    image, draw = draw_on(gradient([(0, (8, 10, 40)), (1, (34, 40, 92))]) + grey(5 * clouds(rng, 4)))
    dots(draw, rng, 90, (0.7, 2.0), (250, 246, 215))
    side = 1 if rng.random() < 0.5 else -1
    x, y = SIZE_PX / 2 + side * rng.uniform(80, 120), rng.uniform(36, 64)
    disc(draw, x, y, 24, (248, 240, 190))
    draw.ellipse((x - 12, y - 30, x + 34, y + 16), fill=(12, 15, 48))
    return to_pixels(image)


def space(rng: np.random.Generator) -> Pixels:
    """Black space with a purple mist, stars and two ringed planets."""
    mist = np.clip(clouds(rng, 3, 6), 0, None)
    pixels = flat((6, 4, 16)) + grey(mist) * np.asarray(jitter(rng, (60, 24, 90), 20), np.float32)
    image, draw = draw_on(pixels)
    dots(draw, rng, 150, (0.6, 2.0), WHITE)
    for _ in range(2):
        x, y, radius, tone = rng.uniform(30, 290), rng.uniform(20, 90), rng.uniform(12, 26), rng.uniform(0, 1)
        disc(draw, x, y, radius, toned((230, 130, 70), (-90, 60, 150), tone))
        ring = 1.7 * radius
        draw.line((x - ring, y + 6, x + ring, y - 6), fill=(240, 220, 180), width=3)
    return to_pixels(image)


def sunset(rng: np.random.Generator) -> Pixels:
    """The sun half below the horizon of a violet sea, its light on the water."""
    horizon = 0.62
    pixels = gradient(
        [
            (0, (92, 52, 130)),
            (0.4, (236, 110, 90)),
            (horizon, (255, 190, 90)),
            (0.63, (110, 60, 90)),
            (1, (60, 34, 70)),
        ]
    )
    image, draw = draw_on(pixels + grey(8 * clouds(rng, 3, 12)))
    x, y = rng.uniform(70, 250), horizon * SIZE_PX
    draw.pieslice((x - 40, y - 40, x + 40, y + 40), 180, 360, fill=(255, 236, 160))
    for gleam in range(7):
        level = 0.64 * SIZE_PX + 14 * gleam
        draw.line((x - 36 + 5 * gleam, level, x + 36 - 5 * gleam, level), fill=(240, 160, 100), width=3)
    return to_pixels(image)


def rain(rng: np.random.Generator) -> Pixels:
    """Grey air with slanting drops, and rings in puddles."""
    image, draw = draw_on(gradient([(0, (92, 104, 122)), (1, (136, 146, 158))]) + grey(10 * clouds(rng, 4, 9)))
    for u, v, length in rng.uniform(0, 1, (230, 3)):
        x, y = u * SIZE_PX, v * SIZE_PX
        draw.line((x, y, x - 6 - 4 * length, y + 18 + 14 * length), fill=(196, 208, 222), width=2)
    for u, v, _ in rng.uniform(0, 1, (10, 3)):
        x, y = u * SIZE_PX, (0.8 + 0.2 * v) * SIZE_PX
        draw.ellipse((x - 26, y - 5, x + 26, y + 5), outline=(200, 210, 224), width=2)
    return to_pixels(image)


def moon(rng: np.random.Generator) -> Pixels:
    """Grey ground with craters under a black sky, and the Earth in it."""
    horizon = 0.36 + 0.02 * np.sin(U * 5 + rng.uniform(0, TURN))
    ground = flat((168, 168, 172), 10 * clouds(rng, 8, 30))
    pixels = np.where((horizon < V)[..., None], ground, flat((8, 8, 14)))
    image, draw = draw_on(pixels)
    dots(draw, rng, 60, (0.6, 1.8), WHITE, band=(0, 0.34))
    for u, v, size in rng.uniform(0, 1, (16, 3)):
        radius = 6 + 18 * size
        x, y = u * SIZE_PX, (0.42 + 0.56 * v) * SIZE_PX
        rim = (x - radius, y - 0.5 * radius, x + radius, y + 0.5 * radius)
        draw.ellipse(rim, fill=(126, 126, 132))
        draw.arc(rim, 0, 180, fill=(214, 214, 218), width=2)
    x = rng.uniform(50, 270)
    draw.ellipse((x - 26, 16, x + 26, 68), fill=(60, 120, 210))
    draw.ellipse((x - 14, 26, x + 8, 46), fill=(90, 170, 90))
    return to_pixels(image)


def among_clouds(rng: np.random.Generator) -> Pixels:
    """Blue sky full of white clouds."""
    cover = np.clip(clouds(rng, 4, 8, 16) + 0.15, 0, 0.7) / 0.7
    whitening = np.asarray((150, 96, 40), np.float32)
    return gradient([(0, (70, 140, 220)), (1, (150, 200, 244))]) + grey(cover) * whitening
