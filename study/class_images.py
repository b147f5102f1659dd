"""Class images of the study: pictures of the class noun with their captions, as the paper's training regularises with."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from demo_world.scenes import caption, sample_scene
from demo_world.world import render

CLASS_IMAGES = 100


def class_images(noun: str, count: int = CLASS_IMAGES) -> tuple[list[Tensor], list[str]]:
    """Draw class images as the demo world's training pictures are drawn; the same noun gives the same ones.

    Args:
        noun: the class noun.
        count: how many.

    Returns:
        images, each [128, 128, 3] in 0 … 1, and a caption each.
    """
    rng = np.random.default_rng(zlib.crc32(noun.encode()))
    images, captions = [], []
    for _ in range(count):
        scene = sample_scene(rng)
        companion = scene.second_noun if scene.second_noun != noun else None
        scene = replace(scene, noun=noun, second_noun=companion)
        images.append(torch.tensor(render(scene, rng)).float() / 255.0)
        captions.append(caption(scene))
    return images, captions
