"""A cheap stand-in decoder: it teaches the encoder what to keep, and is then thrown away.

It works on the latent grid and writes 8 x 8 patches, at an eighth of the cost of the real decoder and without norms,
so the encoder is good (and the latents can be made) long before the real decoder is.
"""

from __future__ import annotations

import torch.nn.functional as F
from comfyui_dci.dci_core.families import FAMILIES
from torch import Tensor, nn

WIDTH = 128
PATCH_PX = FAMILIES["sd1"].pixels_per_latent


class Residual(nn.Module):
    """Two convolutions around a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, WIDTH, h, w] -> [B, WIDTH, h, w]"""
        return x + F.silu(self.second(F.silu(self.first(x))))


class PatchDecoder(nn.Module):
    """Latents [B, 4, h, w] -> pictures [B, 3, 8h, 8w]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, WIDTH, 3, padding=1), Residual(), Residual(), Residual())
        self.patches = nn.Conv2d(WIDTH, 3 * PATCH_PX**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode; the result is about -1 ... 1."""
        return F.pixel_shuffle(self.patches(F.silu(self.body(latents))), PATCH_PX)
