"""Which training makes the trade-off real: plain sampling loses what the auxiliary prompt keeps, and the subject is there.

A small grid of trainings on subjects and a seed that no reported figure has. Cells are kept and a stopped run goes on, as
in run.py. Run from the repository root: python -m study.premise
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo_world.storage import training_log
from study.cells import CELLS, JUDGED
from study.plan import (
    ALL,
    AUXILIARY_ALONE,
    BASE,
    CHOICE,
    CLASS_NOUN_ALONE,
    PLAIN,
    STUDIO,
    Method,
    Plan,
    Setting,
)
from study.prompts import KINDS
from study.results import Results
from study.tables import MISSING, Table, as_csv, write_text_atomically
from study.work import add_options, do

SEED = 101  # of trainings and noises; the study's are others
TABLE = CELLS.with_name("premise.csv")
LOST, KEPT, LIKENESS = 0.2, 0.1, 0.6  # likeness was 0.7 until the trainings were seen: all lay below
EMA_DECAY = 0.98  # without it the last steps' noise decides what is forgotten


def _method(rate: float, class_images: int, references: str, checkpoints: tuple[int, int]) -> Method:
    name = f"{rate:g}, {class_images} class images, {references} references"
    return Method(name, checkpoints, "ico", (1, 1, 3), rate, class_images, references, EMA_DECAY)


GRID = (
    _method(2e-3, 0, ALL, (160, 240)),
    _method(1.4e-3, 0, STUDIO, (160, 240)),
    _method(2.4e-3, 24, STUDIO, (240, 400)),
)
WAYS = (PLAIN, AUXILIARY_ALONE)


PREMISE = Plan(
    "premise",
    subjects=CHOICE,
    seeds=(SEED,),
    settings=(
        Setting(GRID[0], GRID[0].steps, BASE),
        *(Setting(method, method.steps, way) for method in GRID for way in WAYS),
        *(Setting(method, method.checkpoints[0], way) for method in GRID for way in WAYS),
        *(Setting(method, method.steps, CLASS_NOUN_ALONE) for method in GRID),
    ),
)


@dataclass(frozen=True)
class Tradeoff:
    """What a training did, means over subjects and prompts.

    Args:
        likeness: sampled plainly, 0 … 1.
        lost: obedience of the demo model with the class noun, less that of plain sampling.
        kept: obedience of the auxiliary prompt alone, less that of the demo model: 0 where nothing is lost.
    """

    likeness: float
    lost: float
    kept: float

    @property
    def is_real(self) -> bool:
        """Whether there is something to repair, something to repair it with, and a subject to keep."""
        return self.likeness >= LIKENESS and self.lost >= LOST and self.kept >= -KEPT


def tradeoff(results: Results, method: Method, steps: int) -> Tradeoff | None:
    """What a training did at a checkpoint; None where a cell is missing."""
    base = results.points(Setting(GRID[0], GRID[0].steps, BASE))
    plain, auxiliary = (results.points(Setting(method, steps, way)) for way in WAYS[:2])
    if base is None or plain is None or auxiliary is None:
        return None
    likeness, obedience = plain.mean(axis=(0, 1))
    known = base[..., 1].mean()
    return Tradeoff(float(likeness), float(known - obedience), float(auxiliary[..., 1].mean() - known))


def table_of(results: Results) -> Table:
    """Likeness and obedience of every setting, and obedience by kind of prompt."""
    lines = [["training", "steps", "sampling", *JUDGED, *(f"obedience, {kind}" for kind in KINDS)]]
    for setting in results.plan.settings:
        points = results.points(setting)
        numbers = [] if points is None else [*points.mean(axis=(0, 1)), *_by_kind(results, setting)]
        told = [f"{number:.2f}" for number in numbers] or [MISSING] * len(lines[0][3:])
        lines.append([setting.method.name, str(setting.steps), setting.sampling.name, *told])
    return lines


def _by_kind(results: Results, setting: Setting) -> list[float]:
    found = [results.values(setting, "obedience", (kind,)) for kind in KINDS]
    return [float(values.mean()) for values in found if values is not None]


def verdicts(results: Results) -> list[str]:
    """A line for every training at every checkpoint, the most lost first; those with a real trade-off are marked."""
    found = {
        (method, steps): seen
        for method in GRID
        for steps in method.checkpoints
        if (seen := tradeoff(results, method, steps)) is not None
    }
    ordered = sorted(found.items(), key=lambda item: item[1].lost, reverse=True)
    return [
        f"{'REAL' if seen.is_real else '    '} {method.name} at {steps}: likeness {seen.likeness:.2f}, plain loses "
        f"{seen.lost:+.2f}, the auxiliary prompt {-seen.kept:+.2f}"
        for (method, steps), seen in ordered
    ]


def report(folder: Path = CELLS, table: Path = TABLE, only: Sequence[str] = ()) -> list[str]:
    """Return the verdicts; those of all subjects are tabled in premise.csv too.

    Args:
        folder: of the cells.
        table: where it is written.
        only: subjects that count, where not all do; nothing is written then.
    """
    results = Results(folder, replace(PREMISE, subjects=tuple(only) or CHOICE))
    if not only:
        write_text_atomically(table, as_csv(table_of(results)))
    return verdicts(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    given = parser.parse_args()
    do(PREMISE, given, "study.premise")
    log = training_log(PREMISE.name)
    for line in report(only=given.only) or ["No training is finished for all of these subjects yet."]:
        log.info("%s", line)


if __name__ == "__main__":
    main()
