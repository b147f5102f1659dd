"""Painters of contexts under a roof, or close before a wall: backdrop, floors, wall, table, stage and shelves."""

from __future__ import annotations

import numpy as np

from demo_world.painting_tools import (
    SIZE_PX,
    Pixels,
    U,
    V,
    X,
    Y,
    clouds,
    draw_on,
    flat,
    gradient,
    grey,
    jitter,
    to_pixels,
    toned,
)

BOOK_COVERS = ((150, 40, 40), (40, 80, 140), (50, 110, 70), (190, 150, 60), (110, 60, 120), (200, 190, 170))
GOLD = (218, 162, 72)


def studio(rng: np.random.Generator) -> Pixels:
    """A plain pale backdrop, a little darker towards the bottom."""
    return flat(jitter(rng, (212, 212, 216), 24), -26 * (V**2) + 6 * clouds(rng, 2))


def brick_wall(rng: np.random.Generator) -> Pixels:
    """Red-brown bricks, each of its own tone, in pale mortar."""
    image, draw = draw_on(flat((200, 190, 178), 5 * clouds(rng, 30)))
    width, height = 64, 30
    left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
    for row in range(-1, 13):
        for column in range(-2, 7):
            x = column * width + left + (row % 2) * width // 2
            y = row * height + top - height
            ink = toned((168, 84, 64), (1, 0.6, 0.5), rng.uniform(-22, 22))
            draw.rectangle((x + 2, y + 2, x + width - 2, y + height - 2), fill=ink)
    return to_pixels(image) + grey(6 * clouds(rng, 60))


def wooden_floor(rng: np.random.Generator) -> Pixels:
    """Upright planks with grain and dark joints."""
    pixels = flat((176, 122, 74), 10 * np.sin(X / 5 + 6 * clouds(rng, 3, 9)))
    width, joint = 56, 3
    left = int(rng.integers(0, width))
    for plank in range(-1, 7):
        start, stop = max(0, plank * width + left), min(SIZE_PX, (plank + 1) * width + left)
        if start < stop:
            pixels[:, start:stop] += rng.uniform(-24, 24)
            pixels[:, start : min(start + joint, SIZE_PX)] *= 0.5
    return pixels


def red_carpet(rng: np.random.Generator) -> Pixels:
    """Red carpet with a lattice of golden diamonds."""
    step = 64.0
    across = np.abs((X + rng.uniform(0, step)) % step - step / 2)
    down = np.abs((Y + rng.uniform(0, step)) % step - step / 2)
    pixels = flat((172, 22, 40), 8 * clouds(rng, 40))
    pixels[np.abs(across + down - 22) < 4] = GOLD
    pixels[(across + down) < 7] = GOLD
    return pixels


def tiled_floor(rng: np.random.Generator) -> Pixels:
    """A chequerboard of white and slate tiles with grey joints."""
    side, joint = 54, 2
    left, top = rng.uniform(0, side, 2)
    is_white = ((X + left) // side + (Y + top) // side) % 2 > 0
    pixels = np.where(is_white[..., None], flat((236, 236, 232)), flat((40, 52, 66)))
    pixels[((X + left) % side < joint) | ((Y + top) % side < joint)] = 150
    return pixels + grey(4 * clouds(rng, 20))


def stage(rng: np.random.Generator) -> Pixels:
    """Red curtain folds above boards, in the light of two lamps."""
    pixels = gradient([(0, (60, 6, 20)), (0.72, (110, 14, 34)), (0.73, (150, 104, 62)), (1, (96, 62, 36))])
    pixels *= grey(np.where(V < 0.725, 1 + 0.3 * np.sin(U * 75 + 0.8 * clouds(rng, 3)), 1))
    warm = np.asarray((1, 0.95, 0.7), np.float32)
    for lamp in (rng.uniform(0.25, 0.4), rng.uniform(0.6, 0.75)):
        reach = 0.05 + 0.22 * V
        pixels += grey(80 * np.clip(1 - np.abs(U - lamp - 0.08 * (V - 0.5)) / reach, 0, 1)) * warm
    return pixels


def marble_table(rng: np.random.Generator) -> Pixels:
    """White marble with grey veins."""
    vein = 0.22  # half its width
    distance = np.abs(np.sin(U * 5 + V * 3 + 3.2 * clouds(rng, 3, 7, 15)))
    return flat((238, 238, 242), -70 * np.clip(vein - distance, 0, 1) / vein * 0.9 + 5 * clouds(rng, 9))


def library(rng: np.random.Generator) -> Pixels:
    """Shelves of books with a golden line across each spine."""
    image, draw = draw_on(flat((92, 58, 34), 6 * clouds(rng, 10)))
    for shelf in range(-1, 6):
        board = shelf * 62 + 56
        x = 0.0
        while x < SIZE_PX:
            width, height = rng.uniform(9, 20), rng.uniform(36, 50)
            cover = BOOK_COVERS[int(rng.integers(0, len(BOOK_COVERS)))]
            draw.rectangle((x, board - height, x + width - 1, board), fill=cover)
            line = board - height + 8
            draw.line((x + 2, line, x + width - 3, line), fill=(230, 210, 150), width=2)
            x += width + 1
        draw.rectangle((0, board, SIZE_PX, board + 7), fill=(66, 40, 22))
    return to_pixels(image)
