"""Where concept files live: the host's model folder "dci_concepts", and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import folder_paths

from ....dci_core.errors import UserInputError
from ....dci_core.log import LOG

FOLDER = "dci_concepts"


def register_folder() -> None:
    """Make ``models/dci_concepts`` known to the host; paths from extra_model_paths.yaml are kept."""
    default = str(Path(folder_paths.models_dir) / FOLDER)
    known, _ = folder_paths.folder_names_and_paths.get(FOLDER, ([], set()))
    paths = list(dict.fromkeys([default, *known]))
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})
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


def folder_name(class_noun: str, key: str) -> str:
    """Return the name of a run's folder: the class noun in letters any system allows, and the start of the key."""
    return f"{re.sub(r'[^a-z0-9]+', '-', class_noun.lower()).strip('-')[:40] or 'concept'}-{key[:12]}"


def list_concepts() -> list[str]:
    """Return the names of all concept files, with subfolders and ending."""
    return list(folder_paths.get_filename_list(FOLDER))


def find_concept(name: str) -> Path:
    """Return the path of a concept file of the list.

    Raises:
        UserInputError: there is none of that name.
    """
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        raise UserInputError(
            f"There is no concept {name!r} in models/{FOLDER}. Choose one of the list, or save one there."
        )
    return Path(path)


def name_of(path: Path) -> str:
    """Return the name a concept file has in the list: its path below the folder it is in."""
    folders = [Path(folder).resolve() for folder in folder_paths.get_folder_paths(FOLDER)]
    return next(path.relative_to(folder).as_posix() for folder in folders if path.is_relative_to(folder))


def check_name(name: str) -> str:
    """Return the file name a concept is to be saved under, with its ending.

    Raises:
        UserInputError: it is empty, leaves the folder, or holds characters some systems do not allow.
    """
    plain = name.strip().removesuffix(".safetensors")
    parts = plain.split("/")
    if len(plain) > 200 or not all(
        re.fullmatch(r"[^\x00-\x1f<>:\"|?*\\]*[^\x00-\x1f<>:\"|?*\\. ]", part) for part in parts
    ):
        raise UserInputError(
            f'The name {name!r} cannot be a file in models/{FOLDER}. Use letters, digits, "-" and "_", and "/" for subfolders.'
        )
    return plain + ".safetensors"


def free_path(name: str, overwrite: bool) -> Path:
    """Return where to save: under the name, or, unless overwriting, under the first free "name_2", "name_3" …"""
    folder = Path(folder_paths.get_folder_paths(FOLDER)[0]).resolve()
    path = (folder / check_name(name)).resolve()
    if not path.is_relative_to(folder):
        raise UserInputError(f"The name {name!r} leads out of models/{FOLDER}. Leave out dots and slashes.")
    number, first = 2, path
    while path.exists() and not overwrite:
        path = first.with_name(f"{first.stem}_{number}.safetensors")
        number += 1
    return path
