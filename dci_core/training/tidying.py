"""Show what trainings have left on the disk, and delete what is chosen of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ..files import megabytes, reason_of
from ..setting import check_settings, setting
from .folder import name_of_run
from .kept_runs import SEPARATOR, KeptRun, kept_runs

_DAY = 24 * 3600.0


class TidyAction(str, Enum):
    """What is done with the chosen runs."""

    SHOW = "show"
    STATES = "delete states"
    RUNS = "delete runs"


@dataclass(frozen=True)
class TidyPlan:
    """Which runs are chosen, and what for.

    Raises:
        UserInputError: a value is outside its range.
    """

    action: TidyAction = field(
        default=TidyAction.SHOW,
        metadata=setting(
            "show: lists the runs and deletes nothing. delete states: what is only needed to go on training, most of the "
            "size; the concepts stay. delete runs: their concepts too. Concepts of Save Concept and class images are never "
            "touched, nor a run that another program may be training.",
        ),
    )
    older_than_days: int = field(
        default=30,
        metadata=setting(
            "Only runs that nothing was written to for so many days are deleted.", "0 takes all.", allowed=(0, 100_000)
        ),
    )
    run: str = field(
        default="",
        metadata=setting(
            'Only runs whose subject, steps, date or folder holds this text, such as "car" or "car-233e9fb0b54c".',
            "Empty: all.",
        ),
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def names(self, run: KeptRun) -> bool:
        """Whether a run holds the text that is looked for."""
        return self.run.strip().casefold() in f"{run.title} {run.folder.name}".casefold()

    def is_old(self, run: KeptRun, now: float) -> bool:
        """Whether a run is old enough to be deleted."""
        return now - run.changed >= self.older_than_days * _DAY


def tidy(roots: Sequence[Path], plan: TidyPlan, now: float) -> str:
    """Do what the plan says with the runs in some root folders, and return what to tell of it.

    Args:
        roots: folders in which each run has one of its own.
        plan: which runs, and what is done.
        now: seconds since 1970.
    """
    every = [run for root in roots for run in kept_runs(root, now)]
    named = [run for run in every if plan.names(run)]
    chosen = [run for run in named if plan.is_old(run, now) and not run.is_busy]
    old = f"not written to for {plan.older_than_days} days"
    if plan.action is TidyAction.SHOW:
        heading = f"{_sum_of(named)}{_among(every, named)}; {old}: {_sum_of(chosen)}"
        return "\n".join([heading, *(_line(run, run in chosen) for run in named)])
    deleted = [_delete(run, plan.action) for run in chosen]
    what = "states" if plan.action is TidyAction.STATES else "all files"
    heading = (
        f"{megabytes(sum(freed for freed, _ in deleted))} freed: {what} of {_count(chosen)}{_among(every, named)} {old}"
    )
    deleted += [(0, f"{_name(run)}: left alone, it may be training at this moment") for run in named if run.is_busy]
    left = [run for root in roots for run in kept_runs(root, now)]
    return "\n".join([heading, *(line for _, line in deleted), f"left: {_sum_of(left)}"])


def _delete(run: KeptRun, action: TidyAction) -> tuple[int, str]:
    """Delete what the action says; return the bytes that are free now, and a line about it."""
    freed, problem, title = 0, "", _name(run)
    for file in run.states if action is TidyAction.STATES else (*run.states, *run.concepts):
        try:
            size = file.stat().st_size
            file.unlink()
            freed += size
        except OSError as error:
            problem = f"; {file.name} could not be deleted: {reason_of(error)}"
    with suppress(OSError):  # what the user has put there stays
        run.folder.rmdir()
    return freed, f"{title}: {megabytes(freed)} freed{problem}"


def _name(run: KeptRun) -> str:
    return f"{run.title}{SEPARATOR}{name_of_run(run.folder)}"


def _line(run: KeptRun, is_chosen: bool) -> str:
    remark = "; may be training at this moment" if run.is_busy else "; would be deleted" if is_chosen else ""
    return f"{_name(run)}: {_size(run)}{remark}"


def _size(*runs: KeptRun) -> str:
    size, states = sum(run.size for run in runs), sum(run.state_size for run in runs)
    return f"{megabytes(size)}, {megabytes(states)} of it states" if states else megabytes(size)


def _sum_of(runs: Sequence[KeptRun]) -> str:
    return f"{_count(runs)}, {_size(*runs)}" if runs else _count(runs)


def _count(runs: Sequence[KeptRun]) -> str:
    return f"{len(runs) or 'no'} run{'s' * (len(runs) != 1)}"


def _among(every: Sequence[KeptRun], named: Sequence[KeptRun]) -> str:
    return f" (of {len(every)})" if len(named) < len(every) else ""
