"""What could be the demo, and what was seen of it: rows of trainings, and candidates over all trainings of a look."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.cells import JUDGE, file_digest, training_digest
from study.plan import ALL, Method

STRENGTHS = (-2.0, 0.0, 2.0)
FRACTION = 0.5  # T_a
LEAST_CHANGE = 0.5  # of the pictures from λ -2 to 2, as a share of what leaving DCI out changes
LEAST_LIKENESS = 0.35  # at λ 2
METHODS = {
    method.name: method
    for method in (
        Method("2e-3, average 0.98", (160, 240), learning_rate=2e-3, ema_decay=0.98, class_images=0, references=ALL),
    )
}


@dataclass(frozen=True)
class Look:
    """How candidates are looked at.

    Args:
        name: for the table.
        trainings: seeds; the demo shows training 0.
        noises: pictures of each training, prompt and way.
        seed: of the noises; the demo's begin at 0.
    """

    name: str
    trainings: tuple[int, ...]
    noises: int
    seed: int


SEARCH = Look("search", (101, 102), 3, 5000)
FINAL = Look("final", (103, 104, 105), 4, 6000)
LOOKS = (FINAL, SEARCH)
FINALISTS = 4


@dataclass(frozen=True)
class Row:
    """A candidate and what was seen of it in one training, means over the noises.

    Args:
        subject: that was taught.
        prompt: that was drawn.
        method: a key of METHODS.
        steps: of the training.
        seed: of the training.
        fraction: T_a.
        plain_likeness: without DCI, 0 … 1.
        plain_obedience: without DCI, 0 … 1.
        likeness: at each of STRENGTHS.
        obedience: at each of STRENGTHS.
        change: of the pictures from the least λ to the largest, mean absolute difference, 0 … 255.
        plain_change: of the pictures from those without DCI to those with, mean over STRENGTHS, 0 … 255.
        training: digest of all that shaped the training.
        judge: digest of the judge's file.
    """

    subject: str
    prompt: str
    method: str
    steps: int
    seed: int
    fraction: float
    plain_likeness: float
    plain_obedience: float
    likeness: tuple[float, ...]
    obedience: tuple[float, ...]
    change: float
    plain_change: float
    training: str
    judge: str

    @property
    def counts(self) -> bool:
        """Whether it was made with what is there today."""
        method = METHODS.get(self.method)
        if method is None or self.fraction != FRACTION:
            return False
        return digests(self.subject, method, self.seed) == (self.training, self.judge)


@dataclass(frozen=True)
class Candidate:
    """What could be shown, and what was seen of it in all trainings of a look.

    Args:
        look: of it.
        rows: one a training, in the order of the look's.
    """

    look: Look
    rows: tuple[Row, ...]

    @property
    def subject(self) -> str:
        """That was taught."""
        return self.rows[0].subject

    @property
    def prompt(self) -> str:
        """That was drawn."""
        return self.rows[0].prompt

    @property
    def means(self) -> dict[str, float]:
        """Means over the trainings: likeness and obedience without DCI and at each λ, changes of the pictures."""
        numbers = [
            [row.plain_likeness, row.plain_obedience, *row.likeness, *row.obedience, row.change, row.plain_change]
            for row in self.rows
        ]
        return dict(zip(MEANS, np.mean(numbers, axis=0).tolist(), strict=True))

    @property
    def is_seen(self) -> bool:
        """Whether λ changes the pictures, and the subject stays."""
        means = self.means
        return means["change λ"] >= LEAST_CHANGE * means["change plain"] and means["likeness λ 2"] >= LEAST_LIKENESS

    @property
    def turns(self) -> bool:
        """Whether the dial is seen to turn as it should: likeness falls, obedience rises."""
        means = self.means
        return self.is_seen and means["likeness λ -2"] > means["likeness λ 2"] and self.gain > 0

    @property
    def gain(self) -> float:
        """Obedience that λ brings, mean over the trainings."""
        return self.means["obedience λ 2"] - self.means["obedience λ -2"]

    @property
    def gains(self) -> list[float]:
        """Obedience that λ brings in each training."""
        return [row.obedience[-1] - row.obedience[0] for row in self.rows]


MEANS = (
    *("likeness plain", "obedience plain"),
    *(f"{what} λ {strength:g}" for what in ("likeness", "obedience") for strength in STRENGTHS),
    *("change λ", "change plain"),
)


def digests(subject: str, method: Method, seed: int) -> tuple[str, str]:
    """Of all that shapes a candidate's training, and of the judge's file."""
    return training_digest(subject, method, seed), file_digest(JUDGE)


def candidates_of(rows: Sequence[Row], look: Look) -> list[Candidate]:
    """Candidates that were seen in all trainings of a look, those that bring most obedience first."""
    by_name: dict[tuple[str, str, str, int], dict[int, Row]] = {}
    for row in rows:
        if row.seed in look.trainings:
            by_name.setdefault((row.subject, row.prompt, row.method, row.steps), {})[row.seed] = row
    whole = [
        Candidate(look, tuple(seen[seed] for seed in look.trainings))
        for seen in by_name.values()
        if len(seen) == len(look.trainings)
    ]
    return sorted(whole, key=lambda candidate: candidate.gain, reverse=True)


def finalists(rows: Sequence[Row]) -> list[Candidate]:
    """The candidates of the search that bring most obedience while the subject stays."""
    return [candidate for candidate in candidates_of(rows, SEARCH) if candidate.is_seen][:FINALISTS]


def best(rows: Sequence[Row]) -> Candidate | None:
    """The finalist that brings most obedience, whether or not its dial turns; None without finalists that were seen again."""
    return next(iter(candidates_of(rows, FINAL)), None)


def read_rows(folder: Path) -> list[Row]:
    """Rows of all searches that count."""
    entries = [
        json.loads(line)
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    rows = [
        Row(**{**entry, "likeness": tuple(entry["likeness"]), "obedience": tuple(entry["obedience"])})
        for entry in entries
    ]
    return [row for row in rows if row.counts]


def as_table(rows: Sequence[Row]) -> str:
    """All candidates as CSV: finalists first, those that bring most obedience first."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    head = ["look", "subject", "prompt", "method", "steps", "T_a", "trainings", "noises", "dial turns"]
    table.writerow([*head, *MEANS, "gain in each training"])
    for candidate in (candidate for look in LOOKS for candidate in candidates_of(rows, look)):
        first, look = candidate.rows[0], candidate.look
        facts = [look.name, first.subject, first.prompt, first.method, first.steps, f"{first.fraction:g}"]
        facts += [len(look.trainings), look.noises]
        numbers = [f"{value:.1f}" if "change" in name else f"{value:.3f}" for name, value in candidate.means.items()]
        gains = " ".join(f"{gain:+.2f}" for gain in candidate.gains)
        table.writerow([*facts, candidate.turns, *numbers, gains])
    return out.getvalue()
