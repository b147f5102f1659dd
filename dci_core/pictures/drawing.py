"""What all pictures of the package share: colours, the font, round ticks, and the way between tensors and Pillow."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageFont
from torch import Tensor

BACKGROUND = (24, 25, 28)
INK = (222, 224, 228)
FAINT = (150, 154, 162)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def label_font(size_px: float) -> Font:
    """Return Pillow's own font: it needs no file, and has Latin letters only (no λ)."""
    return ImageFont.load_default(size_px)


def nice_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return round values, 1, 2 or 5 times a power of ten apart, of which the first is ≤ low and the last is ≥ high.

    Args:
        low, high: what is to lie between, low < high.
        most: how many there may be, 3 or more.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 5, 10, 20, 50)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < most:
            break
    return tuple(round(number * step, 10) for number in range(first, last + 1))


def to_pil(image: Tensor) -> Image.Image:
    """Return an image tensor, [height, width, channels ≥ 3] with values 0 … 1, as an RGB picture."""
    return Image.fromarray((image[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy())


def to_tensor(picture: Image.Image) -> Tensor:
    """Return an RGB picture as [height, width, 3], float32, values 0 … 1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)
