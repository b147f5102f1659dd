"""What makes drawings look more like what a model draws, for the judge and the CLIP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def degrade(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Blur some pictures and add noise to some: what a model draws is softer than a drawing.

    Args:
        pictures: [B, 3, h, w] in 0 … 1.
        generator: on the pictures' device.
    """

    def chance() -> Tensor:
        return torch.rand(len(pictures), 1, 1, 1, generator=generator, device=pictures.device)

    soft = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")
    pictures = torch.where(chance() < 0.3, soft, pictures)
    strength = torch.where(chance() < 0.3, 0.06, 0.0) * chance()
    noise = torch.randn(pictures.shape, generator=generator, device=pictures.device)
    return pictures + strength * noise
