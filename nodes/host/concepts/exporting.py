"""Write a concept's files for other programs into the host's own model folders; nothing is replaced unasked."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths
from safetensors import SafetensorError

from ....dci_core.concept.concept import Concept, check_concept_fits
from ....dci_core.concept.diffusers_layout import diffusers_layout, needed_weights
from ....dci_core.concept.exchange import Exported, ExportedFile
from ....dci_core.errors import UserInputError
from ....dci_core.files import check_room, megabytes, reason_of
from ..families import family_of
from ..weights import base_hash, cross_attention_shapes, unpatched_weights
from .store import ENDING, check_name

LEAST_FREE_BYTES = 40_000_000
"""Asked for before anything runs, when no concept is there to be measured."""
_HEADER_BYTES = 100_000
_WORD = re.compile(r"[\w./-]+")

_ANOTHER_BASE = (
    "The concept was trained on another checkpoint of the same family. The files hold this one's weights with its change; "
    "likeness may differ."
)


def check_export(name: str, folders: Sequence[str], size: int = LEAST_FREE_BYTES) -> str:
    """Return the name without ending, when files of that name can be written into model folders.

    Args:
        name: as given.
        folders: of the host's model folders, by name.
        size: bytes that are to be free in each.

    Raises:
        UserInputError: prompts could not carry the name, it cannot be a file's, a folder cannot be written, or there is too
            little room.
    """
    plain = check_name(name, folders[0]).removesuffix(ENDING)
    if not _WORD.fullmatch(plain):
        raise UserInputError(
            f'The name {name!r} cannot stand in a prompt as embedding:name. Use letters, digits, "-", "_" and ".", and "/" for '
            "subfolders."
        )
    for folder in folders:
        check_room((_root(folder) / plain).parent, size, "The exported concept")
    return plain


def export_files(files: Sequence[ExportedFile], name: str, overwrite: bool, word: str = "") -> tuple[str, list[Path]]:
    """Write files under one name, or, unless overwriting, under the first "name_2", "name_3" … that is free for all of them.

    Args:
        files: to be written.
        name: without ending.
        overwrite: whether existing files are replaced.
        word: that calls the concept in prompts; the name, without its folders, unless given.

    Returns:
        The name that they have, and their paths.

    Raises:
        UserInputError: the name cannot be used, or a file cannot be written; then none is left.
    """
    size = sum(file.size + _HEADER_BYTES for file in files)
    plain = check_export(name, list(dict.fromkeys(file.folder for file in files)), size)
    for number in itertools.count(1):
        numbered = plain if number == 1 else f"{plain}_{number}"
        if not overwrite and any(_is_taken(file, numbered) for file in files):
            continue
        try:
            return numbered, _write_all(files, numbered, overwrite, word or numbered.rpartition("/")[2])
        except FileExistsError as error:  # taken meanwhile
            if overwrite or not all(_path(file, numbered).parent.is_dir() for file in files):
                raise _unwritten(error, size) from error
        except (OSError, SafetensorError) as error:
            raise _unwritten(error, size) from error
    raise AssertionError("the numbers do not end")


def exported_on(model: Any, concept: Concept, precision: str, rank: int, told: bool) -> tuple[Exported, list[str]]:
    """Return a concept in diffusers' layout, and what there is to warn of.

    Args:
        model: the host MODEL whose unpatched weights the changes are added to, or None.
        concept, precision, told: see ``diffusers_layout``.
        rank: that was asked for; whole weights have none.

    Raises:
        UserInputError: no model, one that the concept does not fit, or a rank.
    """
    if rank:
        raise UserInputError(
            f"The diffusers layout holds whole weights, but rank is {rank}. Set rank to 0, or layout to lora_and_embedding."
        )
    if not concept.deltas:
        return diffusers_layout(concept, {}, precision, told), []
    if model is None:
        raise UserInputError(
            "The diffusers layout holds whole weights, but no model is connected. Connect the checkpoint that the concept was "
            "trained on, or set layout to lora_and_embedding."
        )
    widths = {name: rows.shape[1] for name, rows in concept.tokens.items()}
    check_concept_fits(concept, family_of(model).name, cross_attention_shapes(model), widths)
    warnings = [_ANOTHER_BASE] if base_hash(model) != concept.info.base_hash else []
    weights = unpatched_weights(model, needed_weights(concept))
    return diffusers_layout(concept, weights, precision, told), warnings


def placed(paths: Sequence[Path]) -> str:
    """Return where files are and how large they are, in words."""
    base = Path(folder_paths.models_dir)
    shown = (path.relative_to(base.parent) if path.is_relative_to(base) else path for path in paths)
    return " and ".join(f"{name.as_posix()}, {megabytes(path.stat().st_size)}" for name, path in zip(shown, paths))


def _write_all(files: Sequence[ExportedFile], name: str, overwrite: bool, word: str) -> list[Path]:
    """Write all files or none: those of before an error are taken away again, unless they have replaced others."""
    written: list[Path] = []
    try:
        for file in files:
            path = _path(file, name)
            file.write(path, word, overwrite)
            written.append(path)
    except BaseException:
        for path in written if not overwrite else ():
            path.unlink(missing_ok=True)
        raise
    return written


def _root(folder: str) -> Path:
    return Path(folder_paths.get_folder_paths(folder)[0])


def _path(file: ExportedFile, name: str) -> Path:
    return _root(file.folder) / f"{name}{file.ending}"


def _is_taken(file: ExportedFile, name: str) -> bool:
    """Whether the name is taken in any of the host's folders of that kind; of a file that gets a folder, the folder counts."""
    place = name if file.ending.startswith("/") else f"{name}{file.ending}"
    return any(os.path.lexists(Path(root) / place) for root in folder_paths.get_folder_paths(file.folder))


def _unwritten(error: BaseException, size: int) -> UserInputError:
    where = f" to {error.filename}" if isinstance(error, OSError) and error.filename else ""
    return UserInputError(
        f"The exported concept could not be written{where}: {reason_of(error)}. It needs up to {megabytes(size)}. Free space, make "
        "the folder writable or choose another name, and queue again."
    )
