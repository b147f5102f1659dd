"""The picture styles of the demo world, applied to a finished picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter, ImageOps

PIXEL_ART_BLOCK_PX = 4


def pixel_art(image: Image.Image) -> Image.Image:
    """Large square pixels in a small palette."""
    small = image.resize((image.width // PIXEL_ART_BLOCK_PX, image.height // PIXEL_ART_BLOCK_PX), Image.Resampling.BOX)
    levels = small.point([min(255, round(level / 32.0) * 32) for level in range(256)] * 3)
    return levels.resize(image.size, Image.Resampling.NEAREST)


def sketch(image: Image.Image) -> Image.Image:
    """Pencil lines on pale paper: the grey picture divided by its blurred self, with a faint wash of its tones."""
    grey = ImageOps.grayscale(image)
    tone = np.asarray(grey, dtype=np.float32)
    blurred = np.asarray(grey.filter(ImageFilter.GaussianBlur(3.5)), dtype=np.float32)
    lines = np.clip((tone + 18.0) / (blurred + 18.0), 0.0, 1.0) ** 2.5
    page = lines * (178.0 + 0.29 * tone)
    paper = page[..., None] * np.array([1.0, 0.985, 0.94], dtype=np.float32)  # [h, w, 3]
    return Image.fromarray(np.clip(paper, 0, 255).astype(np.uint8), "RGB")


def black_and_white(image: Image.Image) -> Image.Image:
    """Grey tones with raised contrast."""
    return (
        ImageOps.grayscale(image)
        .point([min(255, max(0, round((level - 128) * 1.15 + 128))) for level in range(256)])
        .convert("RGB")
    )


FILTERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "photo of": lambda image: image,
    "pixel art of": pixel_art,
    "sketch of": sketch,
    "black and white photo of": black_and_white,
}


def apply_style(style: str, image: Image.Image) -> Image.Image:
    """Turn a photo into the named style; "photo of" changes nothing.

    Raises:
        ValueError: the style is not one of this world.
    """
    if style not in FILTERS:
        raise ValueError(f"Unknown style {style!r}; choose one of {sorted(FILTERS)}.")
    return FILTERS[style](image)
