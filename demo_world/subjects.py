"""The reference images of custom subjects: photographs on plain and on a few textured backgrounds."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from demo_world.renderer import Renderer
from demo_world.scenes import Scene
from demo_world.vocabulary import EXEMPLARS, NOUNS, SUBJECTS

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


def class_distance(exemplar: Tensor, subject: str) -> float:
    """How unlike the training exemplars of its class noun the judge finds a subject.

    All subjects are taken out of the reading: of what is left to the training exemplars, this is the share, averaged
    over the pictures, that is not on those of the subject's class noun.

    Args:
        exemplar: the judge's probabilities of pictures of the subject, [B, EXEMPLARS].
        subject: a key of SUBJECTS.

    Returns:
        0 (much like its class) … 1 (unlike it). A picture that leaves nothing to training exemplars counts as 1.
    """
    left = exemplar.double() * torch.tensor([name not in SUBJECTS for name in EXEMPLARS])  # [B, EXEMPLARS]
    of_class = left[:, [EXEMPLARS.index(name) for name in NOUNS[SUBJECTS[subject]]]].sum(dim=1)
    return 1.0 - float((of_class / left.sum(dim=1).clamp(min=1e-300)).mean())


def remove_others(folder: Path, kept: Collection[Path]) -> None:
    """Remove every file below a folder that is not among those kept, and folders that are empty then."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()
