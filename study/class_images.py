"""Class images of the study: drawings of the class noun with their captions, as the paper's training regularises with."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from demo_world.renderer import Renderer
from demo_world.scenes import Scene, caption, sample_scene
from demo_world.vocabulary import NOUNS

BACKGROUNDS = 8  # of each context; more would only take longer to paint


def class_images(noun: str, count: int) -> tuple[list[Tensor], list[str]]:
    """Draw class images as the demo world's training pictures are drawn; a noun's first images are the same for every count.

    Args:
        noun: the class noun, a key of NOUNS. Its custom subjects are not shown.
        count: how many.

    Returns:
        images, each [256, 256, 3] in 0 … 1, and a caption each.

    Raises:
        ValueError: there is no such noun, or fewer than one image is asked for.
    """
    if noun not in NOUNS:
        raise ValueError(f"There is no class noun {noun!r}; choose one of {list(NOUNS)}.")
    if count < 1:
        raise ValueError(f"{count} class images were asked for; ask for 1 or more.")
    rng = np.random.default_rng(zlib.crc32(noun.encode()))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    scenes = [_scene_of(noun, rng) for _ in range(count)]
    shown = {name for scene in scenes for name in (scene.exemplar, scene.companion) if name}
    renderer = Renderer(exemplars=sorted(shown), variants=BACKGROUNDS)
    images = [renderer.draw([scene], generator).pictures[0].permute(1, 2, 0).contiguous() for scene in scenes]
    return images, [caption(scene) for scene in scenes]


def _scene_of(noun: str, rng: np.random.Generator) -> Scene:
    """A scene of training, with an exemplar of the noun as its main object."""
    scene = sample_scene(rng)
    companion = scene.companion if scene.second_noun != noun else None
    return replace(scene, exemplar=NOUNS[noun][int(rng.integers(len(NOUNS[noun])))], companion=companion)
