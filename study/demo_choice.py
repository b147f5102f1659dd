"""Choose what the demo shows (subject, scene, training, T_a), on a training and noises that it does not show.

Every candidate is trained, drawn without DCI and over λ (in bfloat16 where the processor has it), and judged. Rows are kept,
so a stopped search goes on; the table is docs/results/demo_choice.csv. What was chosen stands in workflows/api/demo.json.

A row counts while the model, the references, the method and the judge are those it was made with. Rows that do not say with
which they were made are the first search's, judged at an earlier stage of the judge's training; they count, and are not done again.

    python -m study.demo_choice [--minutes M] [--subjects NAME …] [--final K] [--report]
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from demo_world.judge import Judge, load_judge
from demo_world.storage import cache_folder, training_log
from study.cells import JUDGE, file_digest, training_digest
from study.demo_scenes import SCENES
from study.plan import ALL, PLAIN, Method, Sampling, dci
from study.prompts import Prompt
from study.scoring import score
from study.tables import write_text_atomically
from workbench.pack import ROOT

if TYPE_CHECKING:
    from study.studio import Studio

TABLE = ROOT / "docs" / "results" / "demo_choice.csv"
TRAINING_SEED, NOISE_SEED, FINAL_SEED = 101, 5000, 6000  # the demo shows training 0 and noises from 0
NOISES, FINAL_NOISES = 4, 8
FINALISTS = 6  # are drawn again from other, more noises; the best of these is the choice
STRENGTHS = (-2.0, 0.0, 2.0)
KIND = "second noun"  # of all prompts
FRACTIONS = (0.3,)
LEAST_CHANGE = 0.5  # of the pictures from λ -2 to 2, as a share of what leaving DCI out changes
LEAST_LIKENESS = 0.5  # at λ 2
METHODS = tuple(
    Method(f"demo, {rate:g}", checkpoints, learning_rate=rate, class_images=0, references=ALL)
    for rate, checkpoints in ((2e-3, (120, 150, 180, 210, 240)), (1.5e-3, (150, 180, 210, 240)))
)
METHOD_OF = {method.learning_rate: method for method in METHODS}


@dataclass(frozen=True)
class Row:
    """A candidate and what was seen of it, means over the noises.

    Args:
        subject: that was taught.
        prompt: that was drawn.
        learning_rate: of the training.
        steps: of the training.
        fraction: T_a.
        plain_likeness: without DCI, 0 … 1.
        plain_obedience: without DCI, 0 … 1.
        likeness: at each of STRENGTHS.
        obedience: at each of STRENGTHS.
        change: of the pictures from the least λ to the largest, mean absolute difference, 0 … 255.
        plain_change: of the pictures from those without DCI to those with, mean over STRENGTHS, 0 … 255.
        noises: pictures of each kind.
        training: digest of all that shaped the training; empty of the first search.
        judge: digest of the judge's file; empty of the first search.
    """

    subject: str
    prompt: str
    learning_rate: float
    steps: int
    fraction: float
    plain_likeness: float
    plain_obedience: float
    likeness: tuple[float, ...]
    obedience: tuple[float, ...]
    change: float
    plain_change: float
    noises: int = NOISES
    training: str = ""
    judge: str = ""

    @property
    def counts(self) -> bool:
        """Whether it was made with what is there today, or does not say with what."""
        method = METHOD_OF.get(self.learning_rate)
        if method is None:
            return False
        today = digests(self.subject, method)
        return all(own in ("", now) for own, now in zip((self.training, self.judge), today))

    @property
    def is_seen(self) -> bool:
        """Whether λ changes the pictures, and the subject stays."""
        return self.change >= LEAST_CHANGE * self.plain_change and self.likeness[-1] >= LEAST_LIKENESS

    @property
    def turns(self) -> bool:
        """Whether the dial is seen to turn as it should: likeness falls, obedience rises."""
        return self.is_seen and self.likeness[0] > self.likeness[-1] and self.obedience[0] < self.obedience[-1]

    @property
    def gain(self) -> float:
        """Obedience that λ brings."""
        return self.obedience[-1] - self.obedience[0]


def digests(subject: str, method: Method) -> tuple[str, str]:
    """Of all that shapes a candidate's training, and of the judge's file."""
    return training_digest(subject, method, TRAINING_SEED), file_digest(JUDGE)


def best(rows: Sequence[Row]) -> Row | None:
    """The candidate whose dial turns furthest, by the obedience it brings; None where no dial turns."""
    return max((row for row in rows if row.turns), key=lambda row: row.gain, default=None)


def finalists(rows: Sequence[Row]) -> list[Row]:
    """The candidates that bring most obedience while the subject stays, of the first look."""
    seen = [row for row in rows if row.is_seen and row.noises == NOISES]
    return sorted(seen, key=lambda row: row.gain, reverse=True)[:FINALISTS]


def read_rows(path: Path) -> list[Row]:
    """Rows of an earlier search."""
    if not path.exists():
        return []
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Row(**{**entry, "likeness": tuple(entry["likeness"]), "obedience": tuple(entry["obedience"])})
        for entry in entries
    ]


def candidates(subjects: Sequence[str]) -> Iterator[tuple[str, Method, int]]:
    """Subjects, methods and checkpoints, the likeliest first."""
    for method in METHODS:
        for subject in subjects:
            for steps in reversed(method.checkpoints):
                yield subject, method, steps


def measure(
    studio: Studio, judge: Judge, concept: Path, prompts: Sequence[Prompt], of: tuple[float, int], final: bool = False
) -> Iterator[Row]:
    """Draw and judge prompts of a candidate.

    Args:
        studio: the demo model.
        judge: of what is drawn.
        concept: file of the candidate.
        prompts: of its subject.
        of: its learning rate and steps.
        final: from the finalists' noises.
    """
    noises, seed = (FINAL_NOISES, FINAL_SEED) if final else (NOISES, NOISE_SEED)
    asked = [prompt for prompt in prompts for _ in range(noises)]

    def drawn(how: Sampling) -> tuple[list[float], list[float], Tensor]:
        pictures = studio.draw(concept, prompts, how, noises, seed)
        scores = score(judge, pictures, asked)
        means = [values.reshape(-1, noises).mean(axis=1).tolist() for values in (scores.likeness, scores.obedience)]
        return means[0], means[1], pictures.unflatten(0, (-1, noises))

    plain_likeness, plain_obedience, plain = drawn(PLAIN)
    for fraction in FRACTIONS:
        ways = [drawn(dci(fraction, strength)) for strength in STRENGTHS]
        for number, prompt in enumerate(prompts):
            yield Row(
                prompt.scene.exemplar,
                prompt.text,
                *of,
                fraction,
                plain_likeness[number],
                plain_obedience[number],
                tuple(way[0][number] for way in ways),
                tuple(way[1][number] for way in ways),
                difference(ways[0][2], ways[-1][2], number),
                sum(difference(plain, way[2], number) for way in ways) / len(ways),
                noises,
                *digests(prompt.scene.exemplar, METHOD_OF[of[0]]),
            )


def difference(first: Tensor, second: Tensor, number: int) -> float:
    """Mean absolute difference of a prompt's pictures, 0 … 255; pictures are [prompts, noises, H, W, 3] in 0 … 1."""
    return float((first[number] - second[number]).abs().mean()) * 255


def write_table(rows: Sequence[Row]) -> None:
    """Write all candidates, those whose dial turns first."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    names = [f"{what} λ {strength:g}" for what in ("likeness", "obedience") for strength in STRENGTHS]
    head = ["subject", "prompt", "learning rate", "steps", "T_a", "dial turns", "likeness plain", "obedience plain"]
    table.writerow([*head, *names, "change λ", "change plain", "noises"])
    for row in sorted(rows, key=lambda each: (each.noises, each.turns, each.gain), reverse=True):
        table.writerow(
            [
                *(row.subject, row.prompt, f"{row.learning_rate:g}", row.steps, f"{row.fraction:g}", row.turns),
                *(f"{value:.3f}" for value in (row.plain_likeness, row.plain_obedience, *row.likeness, *row.obedience)),
                *(f"{row.change:.1f}", f"{row.plain_change:.1f}", row.noises),
            ]
        )
    write_text_atomically(TABLE, out.getvalue())


def as_lines(rows: Sequence[Row]) -> str:
    """Rows as they are kept."""
    return "".join(json.dumps(asdict(row)) + "\n" for row in rows)


def all_rows(folder: Path) -> list[Row]:
    """Rows of all searches that count."""
    return [row for each in sorted(folder.glob("*.jsonl")) for row in read_rows(each) if row.counts]


def search(folder: Path, subjects: Sequence[str], minutes: float) -> None:
    """Measure the candidates that no row counts of."""
    from study.studio import Studio

    until, done = (
        time.monotonic() + 60 * minutes,
        {(row.subject, row.learning_rate, row.steps) for row in all_rows(folder)},
    )
    studio, judge = Studio(folder), load_judge()
    for subject, method, steps in candidates(subjects):
        if (subject, method.learning_rate, steps) in done or time.monotonic() > until:
            continue
        concept = studio.fine_tune(subject, method, steps, TRAINING_SEED)
        prompts = [Prompt(KIND, scene) for scene in SCENES[subject]]
        found = list(measure(studio, judge, concept, prompts, (method.learning_rate, steps)))
        with (folder / f"{'-'.join(subjects)}.jsonl").open("a", encoding="utf-8") as file:
            file.write(as_lines(found))


def draw_again(folder: Path, number: int) -> None:
    """Measure a finalist with the finalists' noises, in place of what was kept under its number.

    Raises:
        SystemExit: there is no such finalist.
    """
    last = finalists(all_rows(folder))
    if not 0 <= number < len(last):
        sys.exit(
            f"There are {len(last)} finalists, counted from 0, but --final {number} was given. Search first for more."
        )
    from study.studio import Studio

    row, studio = last[number], Studio(folder)
    concept = studio.fine_tune(row.subject, METHOD_OF[row.learning_rate], row.steps, TRAINING_SEED)
    prompts = [Prompt(KIND, scene) for scene in SCENES[row.subject]]
    prompts = [prompt for prompt in prompts if prompt.text == row.prompt]
    found = list(measure(studio, load_judge(), concept, prompts, (row.learning_rate, row.steps), final=True))
    write_text_atomically(folder / f"final_{number}.jsonl", as_lines(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no candidate after so long")
    parser.add_argument("--subjects", nargs="+", choices=list(SCENES), default=list(SCENES))
    parser.add_argument("--final", type=int, metavar="K", help="only draw finalist K again, counted from 0")
    parser.add_argument("--report", action="store_true", help="only write the table from what is there")
    arguments = parser.parse_args()
    log, folder = training_log("demo_choice"), cache_folder() / "study" / "demo_choice"
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.final is not None and not arguments.report:
        draw_again(folder, arguments.final)
    elif not arguments.report:
        search(folder, arguments.subjects, arguments.minutes)
    rows = all_rows(folder)
    write_table(rows)
    final = [row for row in rows if row.noises == FINAL_NOISES]
    log.info("%d rows; best of the finalists: %s; of all: %s", len(rows), best(final), best(rows))


if __name__ == "__main__":
    main()
