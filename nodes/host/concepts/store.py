"""Where concept files live: the host's model folder "dci_concepts", and nowhere else."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import folder_paths

from ....dci_core.errors import UserInputError
from ....dci_core.log import LOG
from ....dci_core.training.kept_runs import KEY_LETTERS, SEPARATOR
from .extra_paths import count_of_defaults

FOLDER = "dci_concepts"
ENDING = ".safetensors"
MOST_NAME_LETTERS = 200
"""Of a name with its subfolders."""
MOST_NAME_BYTES = 255
"""Of one file or folder, on every common disk."""
_NUMBER_BYTES = len("_9999")
_T = TypeVar("_T")


def register_folder() -> None:
    """Make ``models/dci_concepts`` known to the host, behind the paths that extra_model_paths.yaml marks ``is_default``.

    What is saved goes to the first path; every path is read.
    """
    default = str(Path(folder_paths.models_dir) / FOLDER)
    known, _ = folder_paths.folder_names_and_paths.get(FOLDER, ([], set()))
    first = count_of_defaults(FOLDER)
    paths = list(dict.fromkeys([*known[:first], default, *known[first:]]))
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {ENDING})
    try:
        Path(default).mkdir(parents=True, exist_ok=True)
    except OSError as error:  # models may be read-only; sampling needs no folder
        LOG.warning("The folder %s cannot be made: %s. Concepts cannot be saved there.", default, error)


def training_root() -> Path:
    """Return the folder below which every training run keeps its checkpoints and its result."""
    return Path(folder_paths.get_folder_paths(FOLDER)[0]) / "training"


def class_image_root() -> Path:
    """Return the folder below which class images drawn by base models are kept."""
    return Path(folder_paths.get_folder_paths(FOLDER)[0]) / "class_images"


def roots_beside(root: Path) -> list[Path]:
    """Return a folder below the first concept folder and those of its name below the others; a folder elsewhere stands alone."""
    paths, _ = folder_paths.folder_names_and_paths.get(FOLDER, ([], set()))  # a script may run without the pack's nodes
    folders = [Path(folder) for folder in paths]
    if root.parent not in folders:
        return [root]
    return list(dict.fromkeys([root, *(folder / root.name for folder in folders if (folder / root.name).is_dir())]))


def places_of(root: Path, name: str) -> list[Path]:
    """Return where a folder of this name is to be written, and behind it all others of that name, which may hold what is wanted.

    It is written where it already is, below the root or beside it, if it can be; else below the root.
    """
    there = [beside / name for beside in roots_beside(root) if (beside / name).is_dir()]
    written = next((folder for folder in there if os.access(folder, os.W_OK)), root / name)
    return list(dict.fromkeys([written, *there]))


def folder_name(class_noun: str, key: str) -> str:
    """Return the name of a run's folder: the class noun in letters any system allows, and the start of the key."""
    return f"{re.sub(r'[^a-z0-9]+', '-', class_noun.lower()).strip('-')[:40] or 'concept'}-{key[:KEY_LETTERS]}"


def list_concepts() -> list[str]:
    """Return the names of all concept files, with subfolders and ending."""
    return list(folder_paths.get_filename_list(FOLDER))


def find_concept(name: str) -> Path:
    """Return the path of a concept file by its name, or by an entry of the list that ends in it.

    Raises:
        UserInputError: there is none of that name, or the name is empty.
    """
    if not name:
        raise UserInputError("No concept is chosen. Choose one of the list, or connect file_name of Save Concept.")
    path = folder_paths.get_full_path(FOLDER, name) or folder_paths.get_full_path(FOLDER, name.rpartition(SEPARATOR)[2])
    if path is None:
        raise UserInputError(
            f"There is no concept {name!r} in models/{FOLDER}. Choose one of the list, or save one there."
        )
    return Path(path)


def name_of(path: Path) -> str:
    """Return the name a concept file has in the list: its path below the folder it is in."""
    folders = [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)]
    return next(path.relative_to(folder).as_posix() for folder in folders if path.is_relative_to(folder))


def check_name(name: str, folder: str = FOLDER) -> str:
    """Return the file name a concept is to be saved under, with its ending.

    Args:
        name: as given, with or without the ending.
        folder: of the host's model folders, for the error.

    Raises:
        UserInputError: it is empty, leaves the folder, is too long, or holds characters some systems do not allow.
    """
    plain = name.strip().removesuffix(ENDING)
    parts = plain.split("/")
    if not all(re.fullmatch(r"[^\x00-\x1f<>:\"|?*\\]*[^\x00-\x1f<>:\"|?*\\. ]", part) for part in parts):
        raise UserInputError(
            f'The name {name!r} cannot be a file in models/{folder}. Use letters, digits, "-" and "_", and "/" for subfolders.'
        )
    if len(plain) > MOST_NAME_LETTERS:
        raise UserInputError(
            f"The name {name!r} has {len(plain)} characters, and {MOST_NAME_LETTERS} are allowed. Shorten it."
        )
    *subfolders, last = (len(os.fsencode(part)) for part in parts)
    most = MOST_NAME_BYTES - len(ENDING) - _NUMBER_BYTES
    if last > most or max(subfolders, default=0) > MOST_NAME_BYTES:
        raise UserInputError(
            f"The name {name!r} is too long for a file: {max(last, *subfolders, 0)} bytes, and {most} are allowed, "
            f"{MOST_NAME_BYTES} for a subfolder. A letter that is not plain English takes two bytes or more. Shorten it."
        )
    return plain + ENDING


def path_of(name: str) -> Path:
    """Return the path a name stands for in the first concept folder; links in there are followed when it is used."""
    return Path(folder_paths.get_folder_paths(FOLDER)[0]) / check_name(name)


def save_under(name: str, overwrite: bool, save: Callable[[Path, bool], _T]) -> tuple[Path, _T]:
    """Save under a name, or, unless overwriting, under the first free "name_2", "name_3" …

    When another program takes that one meanwhile, the next free one is taken.

    Args:
        name: of the file, see ``check_name``.
        overwrite: whether an existing file is replaced.
        save: is given the path and whether to replace; raises FileExistsError where it may not.

    Returns:
        The path, and what ``save`` returned.
    """
    first = path_of(name)
    numbered = (first.with_name(f"{first.stem}_{number}{ENDING}") for number in itertools.count(2))
    for path in itertools.chain([first], numbered):
        if not overwrite and _is_taken(path):
            continue
        try:
            return path, save(path, overwrite)
        except FileExistsError:
            if overwrite or not path.parent.is_dir():
                raise
    raise AssertionError("the numbers do not end")


def _is_taken(path: Path) -> bool:
    """Whether there is a file of that name in any concept folder; the list shows one of each name."""
    first, *others = (Path(folder) for folder in folder_paths.get_folder_paths(FOLDER))
    name = path.relative_to(first)
    return any(os.path.lexists(folder / name) for folder in (first, *others))
