"""What a training run draws from: latents of the images, encoded captions, and the order of drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextConditioning:
    """What a text encoder gives the network: context [B, K, D] and, for SDXL, pooled [B, D']."""

    context: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True)
class ImageSet:
    """Latents of the images.

    Args:
        latents: of each image, [F, D, h, w], F = 2 with the mirrored one behind, or 1 without; all in one tensor
            [n, F, D, h, w], or a list of any sizes.
        masks: where each image counts, [F, 1, h, w], values 0 … 1; None is everywhere.
    """

    latents: Tensor | Sequence[Tensor]
    masks: Sequence[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True)
class RegularizationSet(ImageSet):
    """Class images with the encoded captions they keep: context [m, K, D], pooled [m, D'] or None."""

    text: TextConditioning = field(kw_only=True)


class Deck:
    """Draw image indices so that each comes once before any comes again; ``cards`` are those still to come."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self._size = size
        self._generator = generator
        self.cards: list[int] = []

    def draw(self, count: int) -> Tensor:
        """Return ``count`` indices, [count]."""
        drawn: list[int] = []
        while len(drawn) < count:
            if not self.cards:
                self.cards = torch.randperm(self._size, generator=self._generator).tolist()
            drawn.append(self.cards.pop())
        return torch.tensor(drawn)
