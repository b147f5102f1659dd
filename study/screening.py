"""Repeat a training that has not learned its subject, as a user would, before anything of the study is drawn with it.

Whether it has is read from pictures that are none of the study's: the plainest prompt, "photo of a V* bear", from noises of its own.
So nothing that is compared later has chosen the training.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from demo_world.judge import Judge
from demo_world.scenes import Scene
from study.cells import DIGITS, JUDGE, Cell, digest, file_digest, training_digest
from study.plan import PLAIN, Method, Sampling
from study.prompts import Prompt
from study.scoring import score
from study.tables import write_text_atomically

LEARNED = 0.5  # likeness, mean of the pictures, from which a training will do
PICTURES = 4
TRIES = 4
NEXT_SEED = 1000  # added for each further try


class Draws(Protocol):
    """What of a studio is needed."""

    def fine_tune(self, subject: str, method: Method, steps: int, seed: int) -> Path:
        """Return the concept file of a checkpoint."""
        ...

    def draw(self, concept_file: Path, prompts: list[Prompt], how: Sampling, noises: int, seed: int) -> Tensor:
        """Sample pictures."""
        ...


@dataclass(frozen=True)
class Screening:
    """Which training is taken.

    Args:
        key: of all that shapes it.
        tries: seed and likeness, 0 … 1, of each.
        taken: the seed of the first that has learned its subject; of the most faithful where none has.
    """

    key: str
    tries: tuple[tuple[int, float], ...]
    taken: int


def screened_seed(studio: Draws, judge: Judge, cell: Cell, folder: Path) -> int:
    """Return the seed of the training that stands for a cell's, trying further ones where it has not learned its subject.

    Args:
        studio: trains and draws.
        judge: says how much a picture shows the subject.
        cell: whose training.
        folder: of all plans' cells; what was found is kept there, and not looked for again.
    """
    method = cell.setting.method
    key = digest([training_digest(cell.subject, method, cell.seed), file_digest(JUDGE), LEARNED, PICTURES, TRIES])
    path = folder / cell.plan.name / "trainings" / f"{cell.subject}-{cell.seed}-{key}.json"
    if path.exists():
        return int(json.loads(path.read_text(encoding="utf-8"))["taken"])
    tries: list[tuple[int, float]] = []
    for number in range(TRIES):
        seed = cell.seed + number * NEXT_SEED
        tries.append((seed, _likeness(studio, judge, cell.subject, method, seed)))
        if tries[-1][1] >= LEARNED:
            break
    taken = max(tries, key=lambda each: each[1])[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(asdict(Screening(key, tuple(tries), taken))) + "\n")
    return taken


def _likeness(studio: Draws, judge: Judge, subject: str, method: Method, seed: int) -> float:
    prompt = Prompt("context", Scene(subject))
    trained = studio.fine_tune(subject, method, method.steps, seed)
    noise = int(digest([subject, seed, "screening"])[:8], 16)
    images = studio.draw(trained, [prompt], PLAIN, PICTURES, noise)
    return round(float(score(judge, images, [prompt] * PICTURES).likeness.mean()), DIGITS)
