"""Scenes that no training saw, to measure on."""

from __future__ import annotations

import numpy as np

from demo_world.scenes import TRAINING_SHARES, Scene, sample_scene
from demo_world.vocabulary import NOUN_OF, SUBJECTS

FRESH_SEED = 909  # not the seed of the pool


def fresh_scenes(count: int, seed: int = FRESH_SEED) -> list[Scene]:
    """Scenes as the demo model's training draws them; fewer are the beginning of more.

    Args:
        count: how many.
        seed: of no training.
    """
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, TRAINING_SHARES) for _ in range(count)]


def fresh_subjects(count: int) -> list[Scene]:
    """Scenes with a custom subject as the main object."""
    rng = np.random.default_rng(FRESH_SEED + 1)
    scenes: list[Scene] = []
    while len(scenes) < count:
        subject, other = list(SUBJECTS)[len(scenes) % len(SUBJECTS)], sample_scene(rng)
        if NOUN_OF[subject] != other.noun:
            scenes.append(sample_scene(rng, TRAINING_SHARES, ((subject,), (other.exemplar,))))
            if scenes[-1].exemplar != subject:
                scenes.pop()
    return scenes
