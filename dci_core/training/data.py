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

    def rows(self, indices: Tensor) -> TextConditioning:
        """Return the prompts of these indices, [count]."""
        indices = indices.to(self.context.device)
        return TextConditioning(self.context[indices], None if self.pooled is None else self.pooled[indices])

    def joined(self, others: TextConditioning) -> TextConditioning:
        """Return these prompts and others behind them; pooled vectors only where both have them."""
        context = torch.cat([self.context, others.context.to(self.context)])
        if self.pooled is None or others.pooled is None:
            return TextConditioning(context)
        return TextConditioning(context, torch.cat([self.pooled, others.pooled.to(self.pooled)]))


@dataclass(frozen=True)
class MaskedLatents:
    """One image as it is drawn: latents [D, h, w], and where it counts, [1, h, w]; None is everywhere."""

    latents: Tensor
    mask: Tensor | None = None


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

    def draw(self, indices: Tensor, generator: torch.Generator) -> list[MaskedLatents]:
        """Return the images of these indices, [count], each mirrored or not."""
        variants = torch.randint(self.latents[0].shape[0], (len(indices),), generator=generator)
        return [
            MaskedLatents(self.latents[index][variant], None if self.masks is None else self.masks[index][variant])
            for index, variant in zip(indices.tolist(), variants.tolist())
        ]


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
