"""Folders inside the host's input folder, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...dci_core.errors import UserInputError
from ...dci_core.images.folder_files import files_that_count


def list_input_folders() -> list[str]:
    """Return the folders inside the host's input folder, with "/" between their parts."""
    return sorted(folder_paths.get_input_subfolders())


def find_input_folder(name: str) -> Path:
    """Return the path of a folder of the list.

    Raises:
        UserInputError: there is none of that name, or it leads out of the input folder.
    """
    root = Path(folder_paths.get_input_directory()).resolve()
    folder = (root / name).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise UserInputError(f"There is no folder {name!r} in ComfyUI's input folder. Choose one of the list.")
    return folder


def fingerprint(folder: Path) -> str:
    """Return what changes when a file does that decides what is read of the folder."""
    stats = {file.name: file.stat() for file in files_that_count(folder)}
    return "|".join(f"{name}-{stat.st_mtime_ns}-{stat.st_size}" for name, stat in stats.items())
