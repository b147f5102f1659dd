"""Reference images: centre square crop and resize, as in the published code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UserInputError


def center_square(image: Tensor, size_px: int) -> Tensor:
    """Crop the centre square and resize it.

    Args:
        image: [height, width, channels ≥ 3], values 0 … 1; alpha is dropped.
        size_px: edge of the result in pixels.

    Returns:
        [size, size, 3], float32, values 0 … 1.

    Raises:
        UserInputError: not an image of at least 8 × 8 pixels, or not finite.
    """
    if image.ndim != 3 or image.shape[-1] < 3 or min(image.shape[:2]) < 8:
        raise UserInputError(
            f"A reference image has shape {tuple(image.shape)}; expected height × width × 3 with at least 8 × 8 pixels."
        )
    if not torch.isfinite(image).all():
        raise UserInputError("A reference image holds values that are not finite. Load it again or leave it out.")
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = image[top : top + edge, left : left + edge, :3].to(torch.float32).movedim(-1, 0)[None]  # [1, 3, e, e]
    if edge != size_px:
        square = F.interpolate(square, size=(size_px, size_px), mode="bicubic", antialias=True).clamp(0.0, 1.0)
    return square[0].movedim(0, -1).contiguous()
