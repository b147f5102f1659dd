"""The styles of the demo world and its paints: what happens to pixels, batched in torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from demo_world.vocabulary import STYLES

_, DRAWING, LINE_ART, PIXEL_ART, BLACK_AND_WHITE = range(len(STYLES))  # a photo is as drawn
LOOK_OF_STYLE: tuple[int, ...] = (0, 1, 2, 0, 0)  # which look of a sprite a style shows
PIXEL_ART_PX = 8
LUMA = (0.299, 0.587, 0.114)

# Light that falls on objects, by context; white elsewhere.
LIGHT: dict[str, tuple[float, float, float]] = {
    "at night": (0.62, 0.66, 0.92),
    "at sunset": (1.0, 0.84, 0.74),
    "in space": (0.80, 0.80, 0.95),
    "on the moon": (0.86, 0.86, 0.88),
    "in the rain": (0.84, 0.88, 0.94),
    "on a stage": (1.0, 0.92, 0.86),
}


def luma(pictures: Tensor) -> Tensor:
    """Brightness of pictures [B, 3, h, w], 0 … 1, as [B, 1, h, w]."""
    weights = torch.tensor(LUMA, device=pictures.device).view(1, 3, 1, 1)
    return (pictures * weights).sum(dim=1, keepdim=True)


def paint(pictures: Tensor, hue_degrees: Tensor) -> Tensor:
    """Paint pictures in one hue each: dark parts darken it, bright parts fade it.

    Args:
        pictures: [B, 3, h, w] in 0 … 1.
        hue_degrees: [B].
    """
    bright = luma(pictures)
    steps = torch.tensor([5.0, 3.0, 1.0], device=pictures.device)
    place = (steps + hue_degrees[:, None] / 60) % 6
    full = 0.92 * (1 - 0.88 * torch.minimum(place, 4 - place).clamp(0, 1))[:, :, None, None]  # HSV to RGB
    below, above = (bright / 0.6).clamp(0, 1), 0.65 * ((bright - 0.6) / 0.4).clamp(0, 1)
    return full * below * (1 - above) + above


def drawn_background(pictures: Tensor) -> Tensor:
    """A background with few, soft colours: six levels of a blurred picture."""
    soft = F.interpolate(F.avg_pool2d(pictures, 4), scale_factor=4, mode="bilinear")
    return (soft * 5).round() / 5


def line_art_background(pictures: Tensor) -> Tensor:
    """A background of thin grey lines on paper, where brightness changes."""
    grey = pictures.mean(dim=1, keepdim=True)
    edges = (grey - F.avg_pool2d(grey, 7, 1, 3)).abs()
    return (0.96 - 1.6 * edges).clamp(0.45, 1).expand_as(pictures)


def pixel_art(pictures: Tensor) -> Tensor:
    """Large pixels with eight levels a channel."""
    small = (F.avg_pool2d(pictures, PIXEL_ART_PX) * 7).round() / 7
    return F.interpolate(small, scale_factor=PIXEL_ART_PX, mode="nearest")


def black_and_white(pictures: Tensor) -> Tensor:
    """Grey, with a little more contrast."""
    return ((luma(pictures) - 0.5) * 1.12 + 0.5).expand_as(pictures)


def sprite_to_picture(size: Tensor, x: Tensor, y: Tensor, tilt: Tensor, flip: Tensor) -> Tensor:
    """The affine maps from a picture's coordinates to a sprite's, [B, 2, 3], as `affine_grid` takes them.

    Args:
        size: side of the sprite in pictures, [B].
        x: centre in the picture, -1 … 1, [B].
        y: as x.
        tilt: radians, [B].
        flip: -1 mirrors, [B].
    """
    cos, sin = tilt.cos() / size, tilt.sin() / size
    across = torch.stack([cos, sin, -cos * x - sin * y], dim=-1) * flip[:, None]
    down = torch.stack([-sin, cos, sin * x - cos * y], dim=-1)
    return torch.stack([across, down], dim=1)


def shadow(alpha: Tensor) -> Tensor:
    """A soft shadow to the lower right of what covers a picture: blurred over 19 pixels, moved by 10 and 6.

    Args:
        alpha: [B, 1, h, w] in 0 … 1.
    """
    height, width = alpha.shape[-2:]
    blurred = F.avg_pool2d(F.avg_pool2d(F.pad(alpha, (9, 9, 9, 9)), (19, 1), 1), (1, 19), 1)  # in two passes: faster
    return F.pad(blurred, (6, 0, 10, 0))[:, :, :height, :width]
