"""Which difference a plan can see, from how much paired differences scatter over subjects, trainings and pictures.

Run from the repository root: python -m study.power core, for what is there of a plan; or with --deviations, for what it would
see if paired differences scattered like that.
"""

from __future__ import annotations

import argparse
import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from pathlib import Path

from demo_world.storage import training_log
from study.cells import CELLS, JUDGED
from study.plan import CORE, PLAIN, PLANS, Plan
from study.premise import PREMISE
from study.results import Results
from study.statistics import CONFIDENCE, Array, student_quantile

POWER, LEVEL, WANTED = 0.8, 1 - CONFIDENCE, 0.03
MOST_SUBJECTS = 1000


@dataclass(frozen=True)
class Deviations:
    """Standard deviations of a paired difference, 0 or more each.

    Args:
        subjects: of the subjects' own differences.
        trainings: of the trainings of one subject, beside that.
        pictures: of the pictures of one training, beside both.
    """

    subjects: float
    trainings: float
    pictures: float


@dataclass(frozen=True)
class Size:
    """How much is drawn.

    Args:
        subjects: 2 or more.
        trainings: of each.
        pictures: of each training in a setting.
    """

    subjects: int
    trainings: int
    pictures: int


def size_of(plan: Plan) -> Size:
    """The size of a plan."""
    return Size(len(plan.subjects), len(plan.seeds), plan.pictures_of_a_cell)


def standard_error(scatter: Deviations, size: Size) -> float:
    """Standard error of the mean difference: √(σ_s²/S + σ_t²/(S·T) + σ_p²/(S·T·N))."""
    of_a_subject = scatter.trainings**2 + scatter.pictures**2 / size.pictures
    return math.sqrt((scatter.subjects**2 + of_a_subject / size.trainings) / size.subjects)


def detectable(scatter: Deviations, size: Size, power: float = POWER, level: float = LEVEL) -> float:
    """The smallest true difference that the report tells apart from none with a certain power: its t interval over subjects' means.

    Args:
        scatter: of paired differences.
        size: of the study.
        power: chance to find it, 0.5 … 1.
        level: chance to find one where there is none.
    """
    degrees = size.subjects - 1
    both = student_quantile(1 - level / 2, degrees) + student_quantile(power, degrees)
    return both * standard_error(scatter, size)


def subjects_needed(scatter: Deviations, size: Size, difference: float = WANTED) -> int | None:
    """The least number of subjects that sees a difference, all else as it is; None for more than a thousand."""
    counts = range(2, MOST_SUBJECTS + 1)  # more subjects see less
    place = bisect_left(counts, -difference, key=lambda count: -detectable(scatter, replace(size, subjects=count)))
    return counts[place] if place < len(counts) else None


def scatter_of(differences: Array) -> Deviations:
    """Deviations of paired differences, by the method of moments.

    Args:
        differences: [subjects, trainings, pictures]; 2 or more subjects and pictures. With one training its deviation cannot
            be told from the subjects', and counts there.
    """
    _, trainings, pictures = differences.shape
    of_pictures = float(differences.var(axis=2, ddof=1).mean())
    means = differences.mean(axis=2)  # [subjects, trainings]
    of_trainings = 0.0
    if trainings > 1:
        of_trainings = max(0.0, float(means.var(axis=1, ddof=1).mean()) - of_pictures / pictures)
    beside = (of_trainings + of_pictures / pictures) / trainings
    of_subjects = max(0.0, float(means.mean(axis=1).var(ddof=1)) - beside)
    return Deviations(*(math.sqrt(variance) for variance in (of_subjects, of_trainings, of_pictures)))


def told(name: str, scatter: Deviations, size: Size) -> str:
    """One line: the scatter, what is seen, and how many subjects would see 0.03."""
    needed = subjects_needed(scatter, size)
    return (
        f"{name}: deviations {scatter.subjects:.3f} (subjects), {scatter.trainings:.3f} (trainings), "
        f"{scatter.pictures:.3f} (pictures); sees {detectable(scatter, size):.3f} in {POWER:.0%} of studies; "
        f"{needed or 'more than a thousand'} subjects would see {WANTED:g}"
    )


def lines_of(plan: Plan, size: Size, folder: Path = CELLS) -> list[str]:
    """What a plan of a size would see, by every finished setting's scatter against plain sampling of the same training.

    Args:
        plan: whose settings are looked at.
        size: of the plan that is asked about.
        folder: of the cells.
    """
    results, lines = Results(folder, plan), []
    for setting in plan.settings:
        plain = replace(setting, sampling=PLAIN)
        if setting == plain:
            continue
        for axis in JUDGED:
            found, reference = results.values(setting, axis), results.values(plain, axis)
            if found is not None and reference is not None:
                name = f"{setting.method.name} at {setting.steps}, {setting.sampling.name}, {axis}"
                lines.append(told(name, scatter_of(found - reference), size))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    plans = {**PLANS, PREMISE.name: PREMISE}
    parser.add_argument("plan", nargs="?", choices=[*plans], default=CORE.name, help="whose cells tell the scatter")
    parser.add_argument("--deviations", nargs=3, type=float, metavar=("SUBJECTS", "TRAININGS", "PICTURES"))
    given = parser.parse_args()
    size = size_of(CORE if given.plan == PREMISE.name else plans[given.plan])
    log = training_log("power")
    log.info("%d subjects, %d trainings each, %d pictures a setting:", size.subjects, size.trainings, size.pictures)
    plan = plans[given.plan]
    lines = [told("as given", Deviations(*given.deviations), size)] if given.deviations else lines_of(plan, size)
    for line in lines or ["No setting is finished for all subjects."]:
        log.info("%s", line)


if __name__ == "__main__":
    main()
