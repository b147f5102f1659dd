"""The study's results on disk: a file per subject, extended cell by cell, so that a stopped study goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from comfyui_dci.dci_core.files import write_atomically

from demo_world.concepts import Concept
from demo_world.storage import RELEASE
from study.class_images import CLASS_IMAGES
from study.plan import (
    BATCH,
    CONTEXT_RATE_FACTOR,
    PICTURES,
    REVISION,
    TRAINING_SEED,
    Method,
    Prompt,
    Sampling,
    prompts_for,
)
from study.scoring import Score

CELLS = Path(__file__).resolve().parents[1] / "docs" / "results" / "cells"
DIGITS = 4  # of the probabilities that are kept


@dataclass(frozen=True)
class Cell:
    """One concept, fine-tuned by one method to one checkpoint, sampled in one way.

    Args:
        concept: the subject.
        method: of fine-tuning.
        steps: optimizer steps of the checkpoint.
        sampling: with it.
        seed: of the noises.
    """

    concept: Concept
    method: Method
    steps: int
    sampling: Sampling
    seed: int

    @property
    def key(self) -> str:
        """Name of the cell's results, made from everything that shapes them."""
        prompts = [prompt.text for prompt in prompts_for(self.concept)]
        return digest([asdict(self), PICTURES, prompts, training_digest(), REVISION])


@dataclass(frozen=True)
class Row:
    """One picture: which prompt, which kind, which of the batch, and its score."""

    prompt: str
    kind: str
    picture: int
    score: Score


def digest(facts: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def training_digest() -> str:
    """Digest of the shipped demo model and judge, and of how the study trains."""
    files = [
        hashlib.sha256((RELEASE / name).read_bytes()).hexdigest()
        for name in ("dci-demo.safetensors", "dci-demo-judge.safetensors")
    ]
    return digest([*files, CONTEXT_RATE_FACTOR, BATCH, CLASS_IMAGES, TRAINING_SEED])


def rows_of(prompt: Prompt, scores: list[Score]) -> list[Row]:
    """Rows of one prompt's pictures."""
    return [Row(prompt.text, prompt.kind, number, score) for number, score in enumerate(scores)]


class Ledger:
    """Finished cells of one subject.

    Args:
        folder: of all subjects.
        concept: the subject.
    """

    def __init__(self, folder: Path, concept: Concept) -> None:
        self.path = folder / f"{concept.name}.json"
        self.concept = concept
        self._cells: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def __contains__(self, cell: Cell) -> bool:
        return cell.key in self._cells

    def write(self, cell: Cell, rows: list[Row]) -> None:
        """Store a finished cell at once: one line of the file."""
        self._cells[cell.key] = {
            "method": cell.method.name,
            "steps": cell.steps,
            "sampling": cell.sampling.name,
            "seed": cell.seed,
            "fidelity": [round(row.score.fidelity, DIGITS) for row in rows],
            "recognised": [int(row.score.recognised) for row in rows],
            "editability": [round(row.score.editability, DIGITS) for row in rows],
            "obeyed": [int(row.score.obeyed) for row in rows],
        }
        lines = [f"{json.dumps(key)}: {json.dumps(entry, separators=(',', ':'))}" for key, entry in self._cells.items()]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        write_atomically(self.path, lambda temporary: temporary.write_text(text))

    def read(self, cell: Cell) -> list[Row]:
        """Rows of a finished cell, prompt by prompt.

        Raises:
            KeyError: the cell is not finished.
        """
        entry = self._cells[cell.key]
        scores = [
            Score(fidelity, bool(recognised), editability, bool(obeyed))
            for fidelity, recognised, editability, obeyed in zip(
                entry["fidelity"], entry["recognised"], entry["editability"], entry["obeyed"], strict=True
            )
        ]
        prompts = prompts_for(self.concept)
        return [
            row
            for number, prompt in enumerate(prompts)
            for row in rows_of(prompt, scores[number * PICTURES : (number + 1) * PICTURES])
        ]
