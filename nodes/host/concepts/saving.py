"""Save a concept: what can go wrong is looked for before anything runs, and told with its cure when it happens at the end."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from ....dci_core.concept.concept import ConceptInfo
from ....dci_core.errors import UserInputError
from ....dci_core.files import check_room, free_bytes, megabytes, reason_of
from ....dci_core.training.folder import FINISHED
from .store import folder_name, name_of, path_of, places_of, save_under, training_root

LEAST_FREE_BYTES = 40_000_000
"""Asked for before anything runs, when no concept is there to be measured: an SD1.x concept in float16."""
_WHAT = "The concept"
_T = TypeVar("_T")


def check_place(name: str, size: int = LEAST_FREE_BYTES) -> None:
    """Check that a file of this name and size can be saved.

    Raises:
        UserInputError: the name cannot be used, its folder cannot be written, or there is too little room.
    """
    path = path_of(name)
    try:
        path.lstat()
    except OSError as error:  # it need not be there; what else is wrong is found below
        if error.errno == errno.ENAMETOOLONG:
            raise UserInputError(
                f"The name {name!r} is too long for {path.parent}: {reason_of(error)}. Shorten it."
            ) from error
    check_room(path.parent, size, _WHAT)


def save_as(
    name: str, overwrite: bool, info: ConceptInfo, size: int, save: Callable[[Path, bool], _T]
) -> tuple[Path, _T]:
    """Save a concept under a name, see ``save_under``.

    Args:
        name: of the file.
        overwrite: whether an existing file is replaced; otherwise a number is added.
        info: of the concept.
        size: bytes that the file can have.
        save: writes the file, given its path and whether to replace.

    Raises:
        UserInputError: it cannot be written; says why, what to do, and where the training is kept.
    """
    try:
        check_place(name, size)
    except UserInputError as error:
        raise UserInputError(f"{error}{kept_training(info)}") from error
    try:
        return save_under(name, overwrite, save)
    except (OSError, SafetensorError) as error:
        path = path_of(name)
        free = free_bytes(path.parent)
        raise UserInputError(
            f"{_WHAT} could not be written to {path}: {reason_of(error)}. It needs up to {megabytes(size)}"
            f"{'' if free is None else f', {megabytes(free)} are free there'}. Free space, make the folder writable or choose "
            f"another name, and queue again.{kept_training(info)}"
        ) from error


def kept_training(info: ConceptInfo) -> str:
    """Return a sentence on where the finished training of a concept is kept, to follow others; "" where it is not."""
    if not info.training_key:
        return ""
    places = places_of(training_root(), folder_name(info.class_noun, info.training_key))
    file = next((place / FINISHED for place in places if (place / FINISHED).is_file()), None)
    if file is None:
        return ""
    return (
        f" The finished training is kept as {name_of(file)}: Load Concept offers it, and ICO Trainer with reuse on returns it "
        "without training again."
    )
