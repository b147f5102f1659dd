"""What trainings have left in their root folder: which runs, what they are of, and how large."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from ..errors import UserInputError
from ..files import is_abandoned
from ..tensor_file import read_metadata

SEPARATOR = " · "
BUSY_FOR = 3600.0
"""Seconds after its last change in which an unfinished run may still be training, in another program."""
KEY_LETTERS = 12
"""Of a run's key, at the end of its folder's name."""
_FOLDER = re.compile(rf"[a-z0-9-]+-[0-9a-f]{{{KEY_LETTERS}}}")
_CONCEPT = re.compile(r"(finished|best|step_\d{6})\.safetensors")
_STATE = re.compile(r"(finished|step_\d{6})\.resume")
_TEMPORARY = re.compile(r"\..+\.tmp")


@dataclass(frozen=True)
class KeptRun:
    """A run's folder and the files in it that are the run's.

    Args:
        folder: of the run.
        concepts: the finished one first, then best and those of checkpoints, newest first.
        states: what is only needed to go on, temporary files that their writer has left among them.
        size, state_size: bytes of all of them, and of the states.
        changed: when the newest was written, seconds since 1970.
        is_busy: whether another program may be training it at this moment.
    """

    folder: Path
    concepts: tuple[Path, ...]
    states: tuple[Path, ...]
    size: int
    state_size: int
    changed: float
    is_busy: bool

    @property
    def title(self) -> str:
        """Subject, steps and date, as far as the files tell."""
        titles = (title_of(file) for file in self.concepts)
        return next((title[1] for title in titles if title), _date(self.changed))


def is_concept_of_run(file: Path) -> bool:
    """Whether a path is named as a training names its concepts."""
    return bool(_CONCEPT.fullmatch(file.name) and _FOLDER.fullmatch(file.parent.name))


def title_of(file: Path) -> tuple[float, str] | None:
    """Return when a run's concept was written, and its subject, steps and date; None where the file does not say them.

    Only its header is read, once for each state of the file.
    """
    try:
        stat = file.stat()
        subject, steps, _ = _facts(file, stat.st_mtime_ns, stat.st_size)
    except (OSError, UserInputError):
        return None
    if not subject or not steps:
        return None
    reached = {"finished": f"{steps} steps", "best": f"best, step {steps}"}.get(file.stem, f"step {steps}")
    return stat.st_mtime, SEPARATOR.join((subject, reached, _date(stat.st_mtime)))


def kept_runs(root: Path, now: float) -> list[KeptRun]:
    """Return the runs in a root folder, newest first; links, and folders that are not a training's, are left out.

    Args:
        root: see ``TrainingFolder``; it need not exist.
        now: seconds since 1970.
    """
    folders = [entry for entry in root.iterdir() if _FOLDER.fullmatch(entry.name)] if root.is_dir() else []
    found = (_run_in(folder, now) for folder in folders if folder.is_dir() and not folder.is_symlink())
    return sorted((run for run in found if run), key=lambda run: (-run.changed, run.folder.name))


def _run_in(folder: Path, now: float) -> KeptRun | None:
    try:
        files = {file: file.stat() for file in sorted(folder.iterdir()) if file.is_file() and not file.is_symlink()}
    except OSError:  # another program is deleting it
        return None
    concepts = [file for file in files if _CONCEPT.fullmatch(file.name)]
    temporary = [file for file in files if _TEMPORARY.fullmatch(file.name)]
    states = [file for file in files if _STATE.fullmatch(file.name) or (file in temporary and is_abandoned(file))]
    if not concepts and not states or not _keys(concepts, files) <= {folder.name[-KEY_LETTERS:]}:
        return None
    own = [*concepts, *states]
    changed = max(files[file].st_mtime for file in own)
    is_finished = any(file.stem == "finished" for file in concepts)
    return KeptRun(
        folder,
        tuple(sorted(concepts, key=lambda file: (file.stem != "finished", -files[file].st_mtime, file.name))),
        tuple(states),
        sum(files[file].st_size for file in own),
        sum(files[file].st_size for file in states),
        changed,
        is_busy=bool(set(temporary) - set(states)) or (not is_finished and now - changed < BUSY_FOR),
    )


def _keys(concepts: Iterable[Path], stats: Mapping[Path, os.stat_result]) -> set[str]:
    """Return how the keys of those files begin that can be read."""
    keys = set()
    for file in concepts:
        with suppress(UserInputError):
            keys.add(_facts(file, stats[file].st_mtime_ns, stats[file].st_size)[2][:KEY_LETTERS])
    return keys


@lru_cache(maxsize=10_000)
def _facts(file: Path, changed: int, size: int) -> tuple[str, str, str]:
    """Return subject, steps and key of a concept file, "" for what it does not say."""
    metadata = read_metadata(file)
    subject, steps, key = (metadata.get(name, "") for name in ("class_noun", "steps", "training_key"))
    return " ".join(subject.split()), steps, key


def _date(time: float) -> str:
    try:
        return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M")
    except (OSError, OverflowError, ValueError):  # a time that the system's calendar does not have
        return "unknown date"
