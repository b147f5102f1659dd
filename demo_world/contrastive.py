"""How the CLIP of the demo world learns: captions against pictures, without false negatives and with near misses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo_world.scenes import Scene
from demo_world.truth import COLOURLESS
from demo_world.vocabulary import COLOURS, CONTEXTS, EXEMPLARS, STYLES

HIGHEST_SCALE = 100.0  # as in CLIP
NAME_SCALE = 16.0  # of cosines, before the softmax over sprites
SMALLEST_CROP = 0.86  # side of a view's crop


def contrastive_loss(images: Tensor, texts: Tensor, meaning: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy, where texts that mean the same are not pushed apart.

    Args:
        images: features of B pictures, [B, D], of length 1.
        texts: features of T >= B texts, [T, D], of length 1: first the pictures' own, then others that fit none of them
            or mean the same as one that does; these only make it harder for pictures to find their own.
        meaning: [T], integer; equal numbers mean the same.
        scale: factor of the cosines; more than HIGHEST_SCALE counts as that.
    """
    count = len(images)
    own = torch.eye(count, len(texts), dtype=torch.bool, device=images.device)
    as_true = (meaning[:count, None] == meaning[None, :]) & ~own
    scores = (images @ texts.T * scale.clamp(max=HIGHEST_SCALE)).masked_fill(as_true, -torch.inf)
    target = torch.arange(count, device=images.device)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores[:, :count].T, target)) / 2


def near_miss(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene that differs in one trait that can be seen, and is said otherwise: what a score of obedience must tell."""
    changes: dict[str, Callable[[], str | None]] = {
        "exemplar": lambda: _one_of(EXEMPLARS, rng),
        "companion": lambda: None if scene.companion and rng.random() < 0.5 else _one_of(EXEMPLARS, rng),
        "context": lambda: _one_of(CONTEXTS, rng),
        "style": lambda: _one_of(STYLES, rng),
        "colour": lambda: _one_of(tuple(COLOURS), rng),
    }
    if scene.style in COLOURLESS:
        del changes["colour"]
    trait = _one_of(tuple(changes), rng)
    while True:
        change: dict[str, Any] = {trait: changes[trait]()}
        try:
            changed = replace(scene, **change)
        except ValueError:  # both objects would have one class noun
            continue
        if said(changed) != said(scene):
            return changed


def said(scene: Scene) -> tuple[str | None, ...]:
    """What a caption says of a scene, however it is spelled."""
    return scene.noun, scene.second_noun, scene.context, scene.style, scene.colour


def _one_of(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


class NameHeads(nn.Module):
    """Names sprites, in training alone: it makes a small vision tower learn in fewer pictures.

    Args:
        features: D of a picture's features.
        width: of the vision tower's tokens.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.sprites = nn.Parameter(torch.randn(len(EXEMPLARS), features) * features**-0.5)
        self.patch = nn.Linear(width, len(EXEMPLARS))

    def feature_loss(self, images: Tensor, exemplar: Tensor) -> Tensor:
        """Cross-entropy of the main object's sprite, read off a picture's features by cosines.

        Args:
            images: [B, D], of length 1.
            exemplar: [B], number in EXEMPLARS.
        """
        return F.cross_entropy(NAME_SCALE * images @ F.normalize(self.sprites, dim=-1).T, exemplar)

    def patch_loss(self, patches: Tensor, cover: Tensor, sprites: Tensor) -> Tensor:
        """Cross-entropy of the sprites in each patch, weighted by how much of it they cover.

        Args:
            patches: [B, N, width], the vision tower's last tokens without the class token.
            cover: share of each patch that the main object and the companion cover, [B, 2, N], 0 … 1.
            sprites: numbers of both in EXEMPLARS, [B, 2]; the second means nothing where it covers nothing.
        """
        names = F.log_softmax(self.patch(patches).float(), dim=-1)  # [B, N, EXEMPLARS]
        index = sprites[:, None, :].expand(-1, names.shape[1], -1)
        of_both = names.gather(2, index).transpose(1, 2)  # [B, 2, N]
        return -(cover * of_both).sum() / cover.sum().clamp(min=1)


def crop_views(pictures: Tensor, masks: Tensor, patches: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Crops of pictures, some mirrored, and what their objects cover of each patch.

    Args:
        pictures: [B, 3, h, w].
        masks: [B, 2, c, c] in 0 … 1.
        patches: a side.
        generator: on the pictures' device.

    Returns:
        [B, 3, h, w] and [B, 2, patches ** 2].
    """
    chance = torch.rand(4, len(pictures), generator=generator, device=pictures.device)
    side = SMALLEST_CROP + (1 - SMALLEST_CROP) * chance[0]
    mirror = torch.where(chance[1] < 0.5, -1.0, 1.0)
    across, down = (1 - side) * (2 * chance[2] - 1), (1 - side) * (2 * chance[3] - 1)
    zero = torch.zeros_like(side)
    maps = torch.stack([side * mirror, zero, across, zero, side, down], dim=1).view(-1, 2, 3)

    def cut(values: Tensor, height: int, width: int) -> Tensor:
        grid = F.affine_grid(maps, [len(values), values.shape[1], height, width], align_corners=False)
        return F.grid_sample(values, grid, padding_mode="border", align_corners=False)

    views = cut(pictures, *pictures.shape[-2:])
    return views, F.adaptive_avg_pool2d(cut(masks, *masks.shape[-2:]), patches).flatten(2)
