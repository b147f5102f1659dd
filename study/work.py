"""Do a plan's cells: fine-tune, draw, score, keep; in several processes and within a time."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import comfy.model_management

from demo_world.clip import CLIP_COMMAND, CLIP_FILE, clip_scorer
from demo_world.judge import Judge, load_judge
from demo_world.storage import cache_folder, require, training_log
from study.alignment import ClipScorer
from study.cells import CELLS, Cell, Ledger, Scores
from study.plan import ALL, Plan
from study.scoring import score
from study.screening import screened_seed
from study.studio import PICTURES_A_CALL, Studio, noise_seed, references
from workbench.pack import ROOT

Training = tuple[str, int]
"""A subject and the seed of a training."""


@dataclass(frozen=True)
class Limits:
    """How much a worker does, and how.

    Args:
        minutes: after which no cell is begun; infinity is no limit.
        batch: most pictures of a sampler call.
        has_clip: whether pictures get alignments by the demo world's CLIP.
    """

    minutes: float = float("inf")
    batch: int = PICTURES_A_CALL
    has_clip: bool = True


@dataclass(frozen=True)
class Critics:
    """Who scores pictures.

    Args:
        judge: of the demo world.
        clip: of the demo world, or None.
    """

    judge: Judge
    clip: ClipScorer | None


def trainings_of(plan: Plan, only: Sequence[str] = ()) -> list[Training]:
    """All subjects and seeds, seed by seed, or those of some subjects."""
    return [(subject, seed) for seed in plan.seeds for subject in plan.subjects if not only or subject in only]


def cells_of(plan: Plan, trainings: Sequence[Training]) -> Iterator[Cell]:
    """All cells, setting by setting, so that a stopped study has whole settings."""
    for setting in plan.settings:
        for subject, seed in trainings:
            yield Cell(plan, subject, seed, setting)


def load_critics(has_clip: bool) -> Critics:
    """Load the judge, where the host computes, and the CLIP, on the CPU: it is small, and makes its pictures ready there.

    Raises:
        FileNotFoundError: there is no CLIP yet.
        ValueError: the judge cannot be read.
    """
    judge = load_judge().to(comfy.model_management.get_torch_device())
    return Critics(judge, clip_scorer() if has_clip else None)


def results_of(studio: Studio, critics: Critics, cell: Cell) -> Scores:
    """Fine-tune if this machine has not, draw the cell's pictures and score them."""
    setting = cell.setting
    seed = screened_seed(studio, critics.judge, cell, CELLS) if cell.plan.is_screened else cell.seed
    trained = studio.fine_tune(cell.subject, setting.method, setting.steps, seed)
    prompts, noises = cell.plan.prompts(cell.subject), cell.plan.noises
    images = studio.draw(trained, prompts, setting.sampling, noises, noise_seed(cell.subject, cell.seed))
    asked = [prompt for prompt in prompts for _ in range(noises)]
    return score(critics.judge, images, asked, critics.clip, references(cell.subject, ALL))


def run(plan: Plan, trainings: Sequence[Training], limits: Limits) -> None:
    """Do the missing cells of some trainings, until all are there or the time is over."""
    log, started = training_log(plan.name), time.monotonic()
    ledgers = {training: Ledger(CELLS, plan, *training) for training in trainings}
    cells = list(cells_of(plan, trainings))
    missing = [cell for cell in cells if not ledgers[cell.subject, cell.seed].has(cell, limits.has_clip)]
    if not missing:
        return
    studio, critics = Studio(cache_folder() / "study", limits.batch), load_critics(limits.has_clip)
    for number, cell in enumerate(missing, start=1):
        begun = time.monotonic()
        if begun - started >= 60 * limits.minutes:
            left = len(missing) - number + 1
            log.info("%g minutes are over; %d cells are left. Run it again to go on.", limits.minutes, left)
            return
        scores = results_of(studio, critics, cell)
        ledgers[cell.subject, cell.seed].write(cell, scores)
        log.info(
            "%d of %d: %s, training %d, %s at %d, %s: likeness %.2f, obedience %.2f, %.0f s",
            *(number, len(missing), cell.subject, cell.seed, cell.setting.method.name, cell.setting.steps),
            *(cell.setting.sampling.name, scores.likeness.mean(), scores.obedience.mean(), time.monotonic() - begun),
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how much is done, and how, to a command line."""
    parser.add_argument("--only", nargs="+", default=[], metavar="SUBJECT", help="do the cells of these subjects")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so many")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    parser.add_argument("--batch", type=int, default=PICTURES_A_CALL, help="pictures of a sampler call; 96 on a GPU")
    parser.add_argument("--no-clip", action="store_true", help="leave the alignments by the demo world's CLIP out")
    parser.add_argument("--share", nargs=2, type=int, metavar=("NUMBER", "OF"), help=argparse.SUPPRESS)


def check(plan: Plan, given: argparse.Namespace) -> None:
    """Look for what cannot be followed before any work starts.

    Raises:
        SystemExit: a subject is not of the plan, a number is too small, or there is no CLIP yet.
    """
    if strangers := sorted(set(given.only) - set(plan.subjects)):
        sys.exit(f"Unknown subjects {', '.join(strangers)}; the plan has {', '.join(plan.subjects)}.")
    if given.workers < 1 or given.batch < 1 or not given.minutes > 0:
        sys.exit(
            f"--workers {given.workers} and --batch {given.batch} must be 1 or more, --minutes {given.minutes:g} above 0."
        )
    if not given.no_clip:
        try:
            require(CLIP_FILE, CLIP_COMMAND)
        except FileNotFoundError as error:
            sys.exit(f"{error} Or add --no-clip, which leaves the alignments out.")


def do(plan: Plan, given: argparse.Namespace, module: str) -> None:
    """Do what is missing of a plan, as a command line says.

    Args:
        plan: of it.
        given: read by a parser with `add_options`.
        module: whose command line that is; started anew for each worker, which ends this process.

    Raises:
        SystemExit: a worker failed, or the command line cannot be followed; a worker has done its share.
    """
    check(plan, given)
    trainings = trainings_of(plan, given.only)
    if given.share:
        number, of = given.share
        run(plan, trainings[number::of], Limits(given.minutes, given.batch, not given.no_clip))
        sys.exit()
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # the demo model is too small to share a step
    command = [sys.executable, "-m", module, *sys.argv[1:], "--share"]
    count = min(given.workers, len(trainings))
    workers = [
        subprocess.Popen([*command, str(number), str(count)], env=one_thread, cwd=ROOT) for number in range(count)
    ]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        sys.exit("A worker failed; its message is above. Run the same command again to go on.")
