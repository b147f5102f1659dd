"""Where the auxiliary branch may speak: a user's mask, brought to the size of each layer's map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserInputError
from .strength import MapSize

OVERSHOOT = 0.25
"""How far a value may lie outside 0 … 1: blurs and bicubic resizing overshoot a little, masks of 0 … 255 by far."""
Area = tuple[int, int, int, int]


def check_region(mask: Tensor) -> Tensor:
    """Return a mask as [B, H, W], float32, values 0 … 1; what overshoots them a little is brought back.

    Raises:
        UserInputError: it is no mask, empty, or holds values more than ``OVERSHOOT`` outside 0 … 1.
    """
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3 or mask.numel() == 0:
        raise UserInputError(f"auxiliary_mask has shape {tuple(mask.shape)}; expected masks × height × width.")
    if not bool(((mask >= -OVERSHOOT) & (mask <= 1 + OVERSHOOT)).all()):
        raise UserInputError(
            f"auxiliary_mask holds values from {mask.min():g} to {mask.max():g}; between 0 (the auxiliary branch is silent) "
            "and 1 (it may speak) are allowed."
        )
    return mask.to(torch.float32).clamp(0.0, 1.0)


def region_at(mask: Tensor, size: MapSize, batch: int) -> Tensor:
    """Return a mask's mean over each cell of a grid; fewer masks than images are used again from the first.

    Args:
        mask: [B', H, W], values 0 … 1.
        size: (h, w) of the grid, over the whole image.
        batch: B, number of images.

    Returns:
        [B, h, w].
    """
    resized = F.interpolate(mask[:, None], size=size, mode="area")[:, 0]
    return resized[[row % len(resized) for row in range(batch)]]


def region_of_map(region: Tensor, size: MapSize, area: Area | None = None) -> Tensor:
    """Return a region for the tokens of one layer.

    Args:
        region: of the whole latent, [B, h, w].
        size: (h', w') of the layer's map.
        area: (height, width, top, left) within the latent when the layer sees only that part of it.

    Returns:
        [B, N] with N = h'·w'.
    """
    if area is not None:
        height, width, top, left = area
        region = region[:, top : top + height, left : left + width]
    return F.interpolate(region[:, None], size=size, mode="area").flatten(1)
