"""The sprites of the demo world: objects in three looks, from one archive of Fluent Emoji (MIT, Microsoft Corporation)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo_world.vocabulary import EXEMPLARS

ARCHIVE = Path(__file__).resolve().parent / "fluent-emoji.zip"
SPRITE_PX = 192
LOOKS: tuple[str, ...] = ("3D", "flat", "high contrast")  # of NAME.0.webp, NAME.1.webp, NAME.2.webp


def load_sprites(names: Sequence[str] = EXEMPLARS) -> Tensor:
    """Read sprites from the archive.

    Args:
        names: keys of `NOUN_OF`.

    Returns:
        [len(names), 3 looks, 4, SPRITE_PX, SPRITE_PX], uint8, RGBA (not premultiplied).

    Raises:
        FileNotFoundError: the archive is missing.
        ValueError: it is damaged, or there is no such sprite in it.
    """
    if not ARCHIVE.is_file():
        raise FileNotFoundError(f"{ARCHIVE} does not exist. It is part of the repository: check it out again.")
    sprites = np.empty((len(names), len(LOOKS), 4, SPRITE_PX, SPRITE_PX), dtype=np.uint8)
    try:
        with zipfile.ZipFile(ARCHIVE) as archive:
            for row, name in zip(sprites, names):
                for look, target in enumerate(row):
                    with Image.open(io.BytesIO(archive.read(f"{name}.{look}.webp"))) as image:
                        target[...] = np.asarray(image.convert("RGBA")).transpose(2, 0, 1)
    except KeyError as error:
        raise ValueError(f"There is no sprite {error} in {ARCHIVE}; EXEMPLARS lists those that are.") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{ARCHIVE} is damaged ({error}). Check it out again.") from error
    return torch.from_numpy(sprites)
