"""What all pictures of the package share: colours, the font, and the way between tensors and Pillow."""

from __future__ import annotations

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


def to_pil(image: Tensor) -> Image.Image:
    """Return an image tensor, [height, width, channels ≥ 3] with values 0 … 1, as an RGB picture."""
    return Image.fromarray((image[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy())


def to_tensor(picture: Image.Image) -> Tensor:
    """Return an RGB picture as [height, width, 3], float32, values 0 … 1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)
