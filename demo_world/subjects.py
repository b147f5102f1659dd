"""The reference images of custom subjects: photographs on plain and on a few textured backgrounds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from demo_world.renderer import Renderer
from demo_world.scenes import Scene
from demo_world.vocabulary import SUBJECTS

REFERENCE_CONTEXTS: tuple[str, ...] = ("", "on a wooden floor", "on grass", "", "on a marble table", "on a red carpet")
REFERENCE_SEED = 77


def reference_images(renderer: Renderer, subject: str) -> Tensor:
    """Draw the reference images of a subject, the same for each call.

    Args:
        renderer: that has the subject among its exemplars.
        subject: a key of SUBJECTS.

    Returns:
        [len(REFERENCE_CONTEXTS), 3, PICTURE_PX, PICTURE_PX] in 0 … 1.

    Raises:
        ValueError: there is no such subject.
    """
    if subject not in SUBJECTS:
        raise ValueError(f"There is no subject {subject!r}; choose one of {list(SUBJECTS)}.")
    seed = np.random.default_rng([REFERENCE_SEED, list(SUBJECTS).index(subject)]).integers(2**31)
    generator = torch.Generator().manual_seed(int(seed))
    return renderer.draw([Scene(subject, context=context) for context in REFERENCE_CONTEXTS], generator).pictures
