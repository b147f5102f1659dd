"""Measure what defaults are chosen by: the auxiliary branch's way, the active fraction, class images, rates, the noun.

Each measurement is a job; rows go to a file of their worker at once. Jobs that need a fine-tuned subject wait for its file.
Subjects and seeds that defaults are chosen on are not those of the tables.

    python -m study.defaults [--until SECONDS] [--worker N]                measure on the demo model
    python -m study.defaults_report ROWS.jsonl ...                              tables in docs/results/defaults
"""

from __future__ import annotations

import argparse
import pkgutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management
from comfyui_dci.nodes.host.demo_model import Subject

from demo_world.storage import cache_folder, training_log
from study.defaults_bench import Bench, Recipe
from study.defaults_jobs import (
    Job,
    Writer,
    dial_job,
    distance_job,
    fraction_job,
    path_job,
    stochastic_job,
    training_job,
)
from study.worlds import World

CHOICE_SEED, REPORT_SEED = 11, 4242


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[bool]:
    """Whether this worker is the one to do a job."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        yield False
        return
    try:
        yield True
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def work(bench: Bench, jobs: Sequence[tuple[str, Job]], folder: Path, worker: int, until: float) -> None:
    """Do jobs nobody else does, in order; those whose training is missing come again later."""
    log = training_log(f"defaults.{worker}")
    write = Writer(folder / f"rows_{bench.world.name}_{worker}.jsonl")
    waiting = list(jobs)
    while waiting and time.monotonic() < until:
        later = []
        for name, job in waiting:
            if time.monotonic() >= until:
                break
            mark = folder / "done" / bench.world.name / name.replace("/", "_")
            with _one_at_a_time(mark) as mine:
                if not mine:
                    continue
                started = time.monotonic()
                done = job(bench, write)
                log.info("%s: %s, %.0f s", name, "done" if done else "waits", time.monotonic() - started)
                if not done:
                    mark.unlink()
                    later.append((name, job))
        if len(later) == len(waiting):
            time.sleep(5)
        waiting = later


TRAINED = Recipe(12, 12, 1, steps=150)
"""A concept to look at defaults with: the small model needs K, V and [T] to move faster than SD does."""
LAST = 150
CHECKPOINTS = (75, 150, 300)
FRACTIONS = (0.0, 0.15, 0.3, 0.5, 0.7)
"""Latents of 32 × 32 average less noise away than SD's 64 × 64: the noise that is left at T_a 0.15, 0.2, 0.3 there is half as
much here, at 0.31, 0.37, 0.49."""
VARIANTS: tuple[dict[str, Any], ...] = (
    {"cfg": 5.0},
    {"steps": 30},
    {"sampler": "dpmpp_2m"},
    {"sampler": "euler_ancestral"},
    {"strength": 0.0},
)
DISTANCES = ((2.0, 0.3, 7.0), (2.0, 0.15, 7.0), (0.0, 0.3, 7.0), (2.0, 0.3, 5.0))
"""λ, T_a and guidance of the runs that are compared with the authors' 200 steps."""
FINE = "shared, fine steps"


def jobs_of(subjects: Sequence[Subject], seed: int, full: bool) -> list[tuple[str, Job]]:
    """All jobs for some subjects, the trainings that others need first.

    Args:
        subjects: of the world.
        seed: of the pictures.
        full: everything that defaults are chosen by, or what the tables show of the choice.
    """
    jobs: list[tuple[str, Job]] = []

    def add(name: str, subject: Subject, job: Job) -> None:
        jobs.append((f"{name}, {subject.name}, seed {seed}", job))

    for subject in subjects:
        add(f"train {TRAINED.name}", subject, training_job(subject, TRAINED, CHECKPOINTS[:2], seed))
    for strength, fraction, cfg in DISTANCES if full else DISTANCES[:1]:
        for subject in subjects[:2]:
            job = distance_job(subject, TRAINED, LAST, seed, strength, fraction, cfg)
            add(f"distance {strength:g} {fraction:g} {cfg:g}", subject, job)
    for subject in subjects:
        add("paths", subject, path_job(subject, TRAINED, LAST, seed, {}))
        for fraction in FRACTIONS:
            add(f"fraction {fraction:g}", subject, fraction_job(subject, TRAINED, LAST, seed, fraction, FINE))
        add("dial", subject, dial_job(subject, TRAINED, LAST, seed))
    for subject in subjects[:2] if full else ():
        for variant in VARIANTS:
            text = ", ".join(f"{name} {value}" for name, value in variant.items())
            add(f"paths {text}", subject, path_job(subject, TRAINED, LAST, seed, variant))
        for recipe in (
            Recipe(12, 12, 12, steps=150),
            *(Recipe(12, 12, 1, class_images=count, steps=300) for count in (0, 25, 100, 400)),
            Recipe(12, 12, 1, batch=1, steps=300),
            Recipe(12, 12, 1, batch=3, steps=300),
        ):
            add(
                f"train {recipe.name}",
                subject,
                training_job(subject, recipe, CHECKPOINTS[: 2 if recipe.steps == 150 else 3], seed),
            )
        add("stochastic", subject, stochastic_job(subject, TRAINED, LAST, seed))
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", choices=["choice", "reported"], default="choice")
    parser.add_argument("--count", type=int, default=4, help="how many subjects")
    parser.add_argument("--folder", type=Path, default=cache_folder() / "defaults")
    parser.add_argument("--until", type=float, default=1e9, help="seconds after which no new job is begun")
    parser.add_argument("--worker", type=int, default=0, help="number of this worker; start several for several cores")
    parser.add_argument("--world", default="study.worlds:DemoWorld", help="module:class")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.until
    comfy.model_management.FORCE_FP32 = True
    world: World = pkgutil.resolve_name(arguments.world)()
    subjects = world.choice if arguments.subjects == "choice" else world.reported
    seed = CHOICE_SEED if arguments.subjects == "choice" else REPORT_SEED
    bench = Bench(world, arguments.folder)
    few = subjects[: arguments.count]
    jobs = jobs_of(few, seed, full=arguments.subjects == "choice")
    work(bench, jobs, arguments.folder, arguments.worker, until)


if __name__ == "__main__":
    main()
