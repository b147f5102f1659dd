"""The study's results on disk: a file per plan, subject and training, a line per setting, so that a stopped study goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo_world.storage import RELEASE
from study.plan import BATCH, CONTEXT_RATE_FACTOR, Method, Plan, Setting
from study.tables import write_text_atomically

CELLS = Path(__file__).resolve().parents[1] / "docs" / "results" / "cells"
MODEL, JUDGE, CLIP = (f"dci-demo{kind}.safetensors" for kind in ("", "-judge", "-clip"))
REVISION = "0.2.0"  # of the results; change it, and all is computed anew, when training or sampling changes
AXES = ("likeness", "obedience", "clip_i", "clip_t")
JUDGED, ALIGNED = AXES[:2], AXES[2:]  # by the judge, and by a CLIP where there is one
DIGITS = 3  # of the scores that are kept
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One training of one subject, sampled in one setting: all prompts and noises.

    Args:
        plan: whose prompts and noises.
        subject: a key of SUBJECTS.
        seed: of the training.
        setting: how it was trained and is sampled.
    """

    plan: Plan
    subject: str
    seed: int
    setting: Setting

    def key(self, has_clip: bool) -> str:
        """Name of the cell's results, made from everything that shapes them.

        Args:
            has_clip: whether they have alignments by the demo world's CLIP.
        """
        prompts = [prompt.text for prompt in self.plan.prompts(self.subject)]
        files = [file_digest(name) for name in (JUDGE, *([CLIP] if has_clip else []))]
        training = training_digest(self.subject, self.setting.method, self.seed)
        facts = [training, self.setting.steps, asdict(self.setting.sampling), prompts, self.plan.noises, files]
        return digest([*facts, "screened"] if self.plan.is_screened else facts)


@dataclass(frozen=True)
class Scores:
    """Scores of pictures, [B] each, prompt by prompt and noise by noise.

    Args:
        likeness: probability, by the judge, that the main object is the subject, 0 … 1.
        obedience: probability that all that the prompt asks for is there, 0 … 1.
        clip_i: image alignment, mean cosine with the reference pictures; None without a CLIP.
        clip_t: text alignment, cosine with the prompt without V*; None without a CLIP.
    """

    likeness: Array
    obedience: Array
    clip_i: Array | None = None
    clip_t: Array | None = None


def digest(facts: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def file_digest(name: str) -> str:
    """Digest of a file of the release, or of all files of a folder of it; an empty one of what is not there."""
    path = RELEASE / name
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
    return digest([hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()])


def training_digest(subject: str, method: Method, seed: int) -> str:
    """Digest of everything that shapes a fine-tuning: the shipped model, the references, the method."""
    files = file_digest(MODEL), file_digest(f"subjects/{subject}")
    return digest([*files, subject, asdict(method), seed, BATCH, CONTEXT_RATE_FACTOR, REVISION])


def lines_of(path: Path) -> dict[str, dict[str, Any]]:
    """Lines of a cell file by their keys, none where there is no file.

    Raises:
        ValueError: a line is damaged.
    """
    found = {}
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            found[entry["key"]] = entry
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path}, line {number}, is damaged: {line[:40].decode(errors='replace')!r}. Delete the line; its cell is done again."
            ) from error
    return found


class Ledger:
    """Finished cells of one subject and training.

    Args:
        folder: of all plans.
        plan: to which they belong.
        subject: a key of SUBJECTS.
        seed: of the training.

    Raises:
        ValueError: a line of the file is damaged.
    """

    def __init__(self, folder: Path, plan: Plan, subject: str, seed: int) -> None:
        self.path = folder / plan.name / f"{subject}-{seed}.jsonl"
        self._lines = lines_of(self.path)

    def has(self, cell: Cell, has_clip: bool) -> bool:
        """Tell whether a cell is finished; where no CLIP is asked for, one that has its scores will do too."""
        return self._line(cell, has_clip) is not None

    def write(self, cell: Cell, scores: Scores) -> None:
        """Store a finished cell at once, beside those that another command has stored since.

        Raises:
            ValueError: a line of the file is damaged.
        """
        self._lines = lines_of(self.path)
        entry: dict[str, Any] = {
            "key": cell.key(scores.clip_t is not None),
            "method": cell.setting.method.name,
            "steps": cell.setting.steps,
            "sampling": cell.setting.sampling.name,
        }
        for axis in AXES:
            values = getattr(scores, axis)
            entry |= {} if values is None else {axis: [round(float(value), DIGITS) for value in values]}
        self._lines[entry["key"]] = entry
        lines = (json.dumps(line, separators=(",", ":"), ensure_ascii=False) for line in self._lines.values())
        text = "".join(f"{line}\n" for line in lines)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.path, text)

    def read(self, cell: Cell) -> Scores:
        """Scores of a finished cell.

        Raises:
            KeyError: it is not finished.
        """
        line = self._line(cell, has_clip=False)
        if line is None:
            raise KeyError(f"{cell.subject}, training {cell.seed}: {cell.setting.sampling.name} is not finished.")
        return Scores(**{axis: np.array(line[axis]) for axis in AXES if axis in line})

    def _line(self, cell: Cell, has_clip: bool) -> dict[str, Any] | None:
        found = self._lines.get(cell.key(True))
        return found if found is not None or has_clip else self._lines.get(cell.key(False))
