"""Choose what the demo shows (subject, scene, training), by what its dial does over trainings and noises that it does not show.

One training forgets what the next one keeps, so every candidate is trained from several seeds, drawn without DCI and over λ
(in bfloat16 where the processor has it), and judged. The best of the search owe much to luck, so they are trained again, from
other seeds, and what brings most obedience there is the choice; whether its dial turns is said in the table. Rows are kept, so a stopped search goes on; a row counts while the model, the references, the method
and the judge are those it was made with. The table is docs/results/demo_choice.csv; the choice stands in
workflows/api/demo.json.

    python -m study.demo_choice [--minutes M] [--only SUBJECT …] [--final] [--share NUMBER OF] [--report]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from demo_world.judge import Judge, load_judge
from demo_world.storage import cache_folder, training_log
from study.demo_candidates import (
    FINAL,
    FRACTION,
    METHODS,
    SEARCH,
    STRENGTHS,
    Look,
    Row,
    as_table,
    best,
    digests,
    finalists,
    read_rows,
)
from study.demo_scenes import SCENES
from study.plan import PLAIN, Method, Sampling, dci
from study.prompts import Prompt
from study.scoring import score
from study.tables import write_text_atomically
from workbench.pack import ROOT

if TYPE_CHECKING:
    from study.studio import Studio

TABLE = ROOT / "docs" / "results" / "demo_choice.csv"
KIND = "second noun"  # of all prompts


@dataclass(frozen=True)
class Job:
    """A training, looked at.

    Args:
        look: of it.
        subject: that is taught.
        method: of fine-tuning.
        steps: one of its checkpoints.
        seed: of the training.
        prompts: that are drawn.
    """

    look: Look
    subject: str
    method: Method
    steps: int
    seed: int
    prompts: tuple[Prompt, ...]


def search_jobs(subjects: Sequence[str]) -> Iterator[Job]:
    """All of the search, a whole training after the other."""
    for seed in SEARCH.trainings:
        for subject in subjects:
            prompts = tuple(Prompt(KIND, scene) for scene in SCENES[subject])
            for method in METHODS.values():
                for steps in reversed(method.checkpoints):
                    yield Job(SEARCH, subject, method, steps, seed, prompts)


def final_jobs(rows: Sequence[Row]) -> Iterator[Job]:
    """The finalists, in trainings of the final look; those of one training together."""
    together: dict[tuple[str, str, int], list[str]] = {}
    for candidate in finalists(rows):
        first = candidate.rows[0]
        together.setdefault((first.subject, first.method, first.steps), []).append(first.prompt)
    for seed in FINAL.trainings:
        for (subject, method, steps), texts in together.items():
            prompts = [Prompt(KIND, scene) for scene in SCENES[subject]]
            drawn = tuple(prompt for prompt in prompts if prompt.text in texts)
            yield Job(FINAL, subject, METHODS[method], steps, seed, drawn)


def share_of(jobs: Sequence[Job], number: int, of: int) -> list[Job]:
    """The jobs of every `of`-th training, from a number on; looks at one training are never shared out."""
    trainings = list(dict.fromkeys((job.subject, job.method, job.seed) for job in jobs))
    mine = set(trainings[number::of])
    return [job for job in jobs if (job.subject, job.method, job.seed) in mine]


def missing(jobs: Sequence[Job], rows: Sequence[Row]) -> list[Job]:
    """Jobs of which a prompt has no row."""
    done = {(row.subject, row.prompt, row.method, row.steps, row.seed) for row in rows}
    return [
        job
        for job in jobs
        if any((job.subject, each.text, job.method.name, job.steps, job.seed) not in done for each in job.prompts)
    ]


def measure(studio: Studio, judge: Judge, job: Job) -> list[Row]:
    """Train, draw and judge.

    Args:
        studio: the demo model.
        judge: of what is drawn.
        job: what is done.
    """
    concept = studio.fine_tune(job.subject, job.method, job.steps, job.seed)
    noises = job.look.noises
    asked = [prompt for prompt in job.prompts for _ in range(noises)]

    def drawn(how: Sampling) -> tuple[list[float], list[float], Tensor]:
        pictures = studio.draw(concept, job.prompts, how, noises, job.look.seed)
        scores = score(judge, pictures, asked)
        means = [values.reshape(-1, noises).mean(axis=1).tolist() for values in (scores.likeness, scores.obedience)]
        return means[0], means[1], pictures.unflatten(0, (-1, noises))

    plain_likeness, plain_obedience, plain = drawn(PLAIN)
    ways = [drawn(dci(FRACTION, strength)) for strength in STRENGTHS]
    return [
        Row(
            job.subject,
            prompt.text,
            job.method.name,
            job.steps,
            job.seed,
            FRACTION,
            plain_likeness[number],
            plain_obedience[number],
            tuple(way[0][number] for way in ways),
            tuple(way[1][number] for way in ways),
            difference(ways[0][2], ways[-1][2], number),
            sum(difference(plain, way[2], number) for way in ways) / len(ways),
            *digests(job.subject, job.method, job.seed),
        )
        for number, prompt in enumerate(job.prompts)
    ]


def difference(first: Tensor, second: Tensor, number: int) -> float:
    """Mean absolute difference of a prompt's pictures, 0 … 255; pictures are [prompts, noises, H, W, 3] in 0 … 1."""
    return float((first[number] - second[number]).abs().mean()) * 255


def do(jobs: Sequence[Job], file: Path, minutes: float) -> None:
    """Do jobs one after the other, keeping the rows of each at once.

    Args:
        jobs: to be done.
        file: to which rows are added.
        minutes: after which none is begun.
    """
    if not jobs:
        return
    from study.studio import Studio

    until, log = time.monotonic() + 60 * minutes, training_log("demo_choice")
    studio, judge = Studio(file.parent), load_judge()
    for number, job in enumerate(jobs, start=1):
        if time.monotonic() > until:
            log.info("%g minutes are over; %d of %d are left.", minutes, len(jobs) - number + 1, len(jobs))
            return
        rows = measure(studio, judge, job)
        with file.open("a", encoding="utf-8") as opened:
            opened.write("".join(json.dumps(asdict(row)) + "\n" for row in rows))
        log.info("%d of %d: %s, training %d, %d steps", number, len(jobs), job.subject, job.seed, job.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no training after so long")
    parser.add_argument("--only", nargs="+", choices=list(SCENES), default=list(SCENES), help="search these subjects")
    parser.add_argument("--final", action="store_true", help="draw the best of the search again, from other trainings")
    share = ("NUMBER", "OF")
    parser.add_argument("--share", nargs=2, type=int, default=(0, 1), metavar=share, help="of the trainings, from 0")
    parser.add_argument("--report", action="store_true", help="only write the table from what is there")
    given = parser.parse_args()
    folder, (number, of) = cache_folder() / "study" / "demo_choice", given.share
    if not 0 <= number < of:
        parser.error(f"--share {number} {of}: the first number counts from 0 to {of - 1}")
    folder.mkdir(parents=True, exist_ok=True)
    if not given.report:
        rows = read_rows(folder)
        jobs = missing(list(final_jobs(rows) if given.final else search_jobs(given.only)), rows)
        do(share_of(jobs, number, of), folder / f"rows-{number}-{of}.jsonl", given.minutes)
    rows = read_rows(folder)
    write_text_atomically(TABLE, as_table(rows))
    training_log("demo_choice").info("%d rows; the choice: %s", len(rows), best(rows))


if __name__ == "__main__":
    main()
