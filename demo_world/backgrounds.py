"""The bank of painted contexts: some variants of each, painted once and kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from comfyui_dci.dci_core.files import write_atomically
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo_world import contexts, indoor_scenery, outdoor_scenery, painting_tools, sky_scenery
from demo_world.contexts import SIZE_PX, context_number, paint_context
from demo_world.storage import cache_folder, sources_hash, training_log
from demo_world.vocabulary import CONTEXTS

VARIANTS = 44
"""How many pictures of each context there are for training."""

_SOURCES = (contexts, indoor_scenery, outdoor_scenery, painting_tools, sky_scenery)
_KEY = "backgrounds"
_LOG = training_log("backgrounds")


def background(context: str, variant: int) -> Tensor:
    """Paint one background.

    Args:
        context: one of `CONTEXTS`.
        variant: from 0; those below `VARIANTS` are the bank's.

    Returns:
        uint8 [3, SIZE_PX, SIZE_PX], 0 ... 255.

    Raises:
        ValueError: the phrase is not a context of this world, or the variant is negative.
    """
    number = context_number(context)
    if variant < 0:
        raise ValueError(f"Variant {variant} of a background does not exist; give 0 or more.")
    pixels = paint_context(context, np.random.default_rng([number, variant]))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def background_bank(variants: int = VARIANTS) -> Tensor:
    """Return so many variants of every context, from the cache folder where they lie there.

    Args:
        variants: of each context, 1 or more; a smaller bank is the beginning of a larger one.

    Returns:
        uint8 [len(CONTEXTS), variants, 3, SIZE_PX, SIZE_PX], 0 ... 255; the same as `background` of each.

    Raises:
        ValueError: fewer than one variant.
    """
    if variants < 1:
        raise ValueError(f"A bank of {variants} variants holds nothing; ask for 1 or more.")
    path = bank_path(variants)
    bank = _read(path, (len(CONTEXTS), variants, 3, SIZE_PX, SIZE_PX)) if path.exists() else None
    if bank is None:
        _LOG.info("Painting %d variants of %d contexts; they are kept in %s.", variants, len(CONTEXTS), path)
        painted = bank = _paint(variants)
        write_atomically(path, lambda temporary: save_file({_KEY: painted}, temporary))
    return bank


def bank_path(variants: int) -> Path:
    """Return where a bank is kept; the name changes with the painters."""
    return cache_folder() / f"backgrounds-{variants}-{painters_hash()}.safetensors"


def painters_hash() -> str:
    """Return twelve hexadecimal digits that change with the painters and the contexts."""
    return sources_hash([__file__, *(module.__file__ for module in _SOURCES)], *CONTEXTS)


def _paint(variants: int) -> Tensor:
    bank = torch.empty((len(CONTEXTS), variants, 3, SIZE_PX, SIZE_PX), dtype=torch.uint8)
    for number, context in enumerate(CONTEXTS):
        for variant in range(variants):
            bank[number, variant] = background(context, variant)
    return bank


def _read(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Return the bank in a file, None (and a line in the log) where it is damaged."""
    try:
        bank = load_file(path)[_KEY]
    except (SafetensorError, KeyError) as error:
        _LOG.warning("%s is damaged (%s) and is painted anew.", path, error)
        return None
    if bank.dtype != torch.uint8 or tuple(bank.shape) != shape:
        _LOG.warning("%s holds %s %s, not a bank, and is painted anew.", path, bank.dtype, tuple(bank.shape))
        return None
    return bank
