"""Where things are in a picture, and the chances of a drawing: drawn on the CPU, so that every device draws the same."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

PICTURE_PX = 256
TILT = 0.21  # radians, either way
MARGIN = 0.04  # of half a picture, between an object and the border


@dataclass(frozen=True)
class Spots:
    """Where the objects of B pictures are, each [B], float32.

    Args:
        x: centre, -1 (left) … 1 (right).
        y: centre, -1 (top) … 1 (bottom).
        size: side of the sprite in pictures, 0 … 1.
        tilt: radians.
        flip: -1 mirrors the sprite, 1 does not.
        light: factor of brightness.
    """

    x: Tensor
    y: Tensor
    size: Tensor
    tilt: Tensor
    flip: Tensor
    light: Tensor

    def where(self, chosen: Tensor) -> Spots:
        """The spots of some of the pictures; `chosen` is an index or a mask, [B]."""
        return Spots(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def to(self, device: torch.device) -> Spots:
        """The same on another device."""
        return Spots(*(getattr(self, each.name).to(device) for each in fields(self)))


@dataclass(frozen=True)
class Placement:
    """All chances of B drawings.

    Args:
        main: of the main objects.
        companion: of the second objects; rows of pictures without one mean nothing.
        variant: which painting of the context, 0 … 1, [B].
        crop: corner of the picture in the painting, 0 … 1, [B, 2] (x, y).
        mirrored: whether the background is mirrored, [B], bool.
        light: factor of the background's brightness, [B].
    """

    main: Spots
    companion: Spots
    variant: Tensor
    crop: Tensor
    mirrored: Tensor
    light: Tensor


def place(paired: Tensor, generator: torch.Generator) -> Placement:
    """Draw the chances of B drawings.

    Args:
        paired: whether there is a companion, [B], bool: it takes one side and the main object the other.
        generator: on the CPU. Each picture takes equally many numbers, so what one shows changes no other.
    """
    chance = iter(torch.rand(len(paired), 20, generator=generator).unbind(dim=1))

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * next(chance)

    def sign() -> Tensor:
        return torch.where(next(chance) < 0.5, -1.0, 1.0)

    side = sign()
    share = next(chance)
    size = torch.where(paired, 118 + 26 * share, 132 + 60 * share) / PICTURE_PX
    reach = (1 - size - MARGIN).clamp(min=0)
    away, across, up = between(0.36, 0.44), between(-0.9, 0.9), between(-1, 1)
    main = Spots(
        x=torch.where(paired, -side * away, across * reach),
        y=torch.where(paired, 0.02 + 0.14 * up, 0.06 + up * reach.clamp(max=0.2)),
        size=size,
        tilt=between(-TILT, TILT),
        flip=sign(),
        light=between(0.94, 1.06),
    )
    companion = Spots(
        x=side * between(0.55, 0.62),
        y=between(0.12, 0.44),
        size=between(84, 98) / PICTURE_PX,
        tilt=between(-TILT, TILT),
        flip=sign(),
        light=between(0.94, 1.06),
    )
    crop = torch.stack([next(chance), next(chance)], dim=1)
    return Placement(main, companion, next(chance), crop, next(chance) < 0.5, between(0.95, 1.05))
