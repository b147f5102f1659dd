"""The list of concepts to choose from: those that were saved, and below them what trainings have left, by subject."""

from __future__ import annotations

from pathlib import Path, PurePath

import folder_paths

from ....dci_core.training.kept_runs import SEPARATOR, is_concept_of_run, title_of
from .store import FOLDER, list_concepts


def offered_concepts() -> list[str]:
    """Return the choices: names of saved concepts, then those of trainings behind subject, steps and date, newest first."""
    names = list_concepts()
    of_runs = {name: path for name in names if (path := _in_run(name)) is not None}
    titles = [(*title, PurePath(name).as_posix()) for name, path in of_runs.items() if (title := title_of(path))]
    newest_first = sorted(titles, key=lambda entry: (-entry[0], entry[2]))
    known = {name for _, _, name in titles}
    return [
        *(name for name in names if name not in of_runs),
        *(f"{title}{SEPARATOR}{name}" for _, title, name in newest_first),
        *(name for name in of_runs if PurePath(name).as_posix() not in known),
    ]


def _in_run(name: str) -> Path | None:
    """Return the path of a listed name that a training has written, else None."""
    if PurePath(name).parts[0] != "training" or len(PurePath(name).parts) != 3:
        return None
    path = folder_paths.get_full_path(FOLDER, name)
    return Path(path) if path is not None and is_concept_of_run(Path(path)) else None
