"""The study's results on disk: one file per cell, so that a stopped study goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from demo_world.concepts import Concept
from demo_world.storage import RELEASE, write_atomically
from study.plan import PICTURES, SEED, Method, Prompt, Sampling
from study.scoring import Score


@dataclass(frozen=True)
class Cell:
    """One concept, fine-tuned by one method to one checkpoint, sampled in one way.

    Args:
        concept: the subject.
        method: of fine-tuning.
        steps: optimiser steps of the checkpoint.
        sampling: with it.
    """

    concept: Concept
    method: Method
    steps: int
    sampling: Sampling

    def path(self, folder: Path, version: str) -> Path:
        """Where the cell's results lie: named after everything that shapes them.

        Args:
            folder: of all cells.
            version: of the code whose results these are.
        """
        facts = [asdict(self), SEED, PICTURES, version, model_hash()]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return folder / f"{digest[:24]}.json"


@dataclass(frozen=True)
class Row:
    """One picture: which prompt, which kind, which of the batch, and its score."""

    prompt: str
    kind: str
    picture: int
    score: Score


def model_hash() -> str:
    """SHA-256 of the shipped demo model and judge."""
    digest = hashlib.sha256()
    for name in ("dci-demo.safetensors", "dci-demo-judge.safetensors"):
        digest.update((RELEASE / name).read_bytes())
    return digest.hexdigest()


def rows_of(prompt: Prompt, scores: list[Score]) -> list[Row]:
    """Rows of one prompt's pictures."""
    return [Row(prompt.text, prompt.kind, number, score) for number, score in enumerate(scores)]


def write_rows(path: Path, rows: list[Row]) -> None:
    """Store a finished cell."""
    text = json.dumps([asdict(row) for row in rows])
    write_atomically(path, lambda temporary: temporary.write_text(text))


def read_rows(path: Path) -> list[Row]:
    """Read a finished cell."""
    return [Row(**{**entry, "score": Score(**entry["score"])}) for entry in json.loads(path.read_text())]
