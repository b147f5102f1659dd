"""Recognise that memory ran out, and say what lowers the need."""

from __future__ import annotations

import re

import torch

from ....dci_core.errors import UserInputError
from ....dci_core.training.settings import OptimizerKind, TrainingSettings

_TOLD_AS = ("out of memory", "can't allocate memory", "not enough memory")  # drivers, Linux, Windows


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU of any maker or on the CPU; torch has a class of its own for some of these only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _TOLD_AS)


def out_of_memory(error: BaseException, settings: TrainingSettings) -> UserInputError:
    """Return the error that says what was needed and which options lower it."""
    wanted = re.search(r"[Tt]r(?:ied|ying) to allocate ([\d.]+ ?\w+)|allocate (\d+ bytes)", str(error))
    needed = f" while asking for {wanted[1] or wanted[2]} more" if wanted else ""
    cures = [
        "gradient_checkpointing on, which goes on from there" if not settings.gradient_checkpointing else "",
        f"batch_size 1 (now {settings.batch_size})" if settings.batch_size > 1 else "",
        "rank 16, so that optimizer and gradients shrink" if not settings.rank else "",
        "optimizer adamw_8bit" if settings.optimizer is OptimizerKind.ADAMW and not settings.rank else "",
        "a smaller resolution",
    ]
    return UserInputError(
        f"Memory ran out{needed}. What was reached is kept as a checkpoint. What else you change trains anew. Try, in this order: "
        + "; ".join(cure for cure in cures if cure)
        + f". The host said: {str(error).splitlines()[0][:200]}"
    )
