"""What a plan's finished cells say, as arrays over subjects, trainings and pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from study.cells import AXES, JUDGED, Cell, Ledger
from study.plan import (
    ALL_FRACTIONS,
    ALL_STRENGTHS,
    AUXILIARY_ALONE,
    AUXILIARY_NOUN,
    BASE,
    CLASS_NOUN,
    PLAIN,
    WEAKER,
    Method,
    Plan,
    Sampling,
    Setting,
    dci,
    first_said,
)
from study.prompts import KINDS
from study.statistics import Array


class Results:
    """The finished cells of a plan.

    Args:
        folder: of all plans' cells.
        plan: whose.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        trainings = [(subject, seed) for subject in plan.subjects for seed in plan.seeds]
        self._ledgers = {training: Ledger(folder, plan, *training) for training in trainings}

    @property
    def finished(self) -> int:
        """How many cells there are."""
        return sum(
            ledger.has(Cell(self.plan, *training, setting), has_clip=False)
            for training, ledger in self._ledgers.items()
            for setting in self.plan.settings
        )

    def values(self, setting: Setting, axis: str, kinds: Collection[str] = KINDS) -> Array | None:
        """Scores of a setting's pictures.

        Args:
            setting: of the plan.
            axis: of AXES.
            kinds: of prompts that count.

        Returns:
            [subjects, trainings, pictures]; None where a cell is missing, or was not scored so.
        """
        rows = []
        for (subject, seed), ledger in self._ledgers.items():
            cell = Cell(self.plan, subject, seed, setting)
            if not ledger.has(cell, has_clip=False):
                return None
            scores: Array | None = getattr(ledger.read(cell), axis)
            if scores is None:
                return None
            prompts = self.plan.prompts(subject)
            counted = [place for place, prompt in enumerate(prompts) if prompt.kind in kinds]
            rows.append(scores.reshape(len(prompts), -1)[counted].ravel())
        return np.array(rows).reshape(len(self.plan.subjects), len(self.plan.seeds), -1)

    def points(
        self, setting: Setting | None, axes: Sequence[str] = JUDGED, kinds: Collection[str] = KINDS
    ) -> Array | None:
        """Mean scores of a setting, [subjects, trainings, axes]; None where `values` has none or there is no setting."""
        if setting is None:
            return None
        found = [self.values(setting, axis, kinds) for axis in axes]
        return np.stack([one.mean(axis=2) for one in found if one is not None], axis=-1) if _all(found) else None

    def curve(
        self, settings: Sequence[Setting], axes: Sequence[str] = JUDGED, kinds: Collection[str] = KINDS
    ) -> Array | None:
        """Points of several settings, [subjects, trainings, settings, axes]; None when one is missing."""
        found = [self.points(setting, axes, kinds) for setting in settings]
        return np.stack([one for one in found if one is not None], axis=2) if found and _all(found) else None


def _all(found: Sequence[Array | None]) -> bool:
    return all(one is not None for one in found)


def settings_of(plan: Plan, samplings: Sequence[Sampling]) -> list[Setting]:
    """Those of some ways that a plan has, at the end of the training that is repaired."""
    found = [plan.find(sampling) for sampling in samplings]
    return [setting for setting in found if setting is not None]


def dci_curve(plan: Plan, fraction: float) -> list[Setting]:
    """λ from low to high at one T_a."""
    return settings_of(plan, [dci(fraction, strength) for strength in ALL_STRENGTHS])


def strengths_of(settings: Sequence[Setting]) -> list[float]:
    """λ of settings with two branches."""
    found = [dict(setting.sampling.dci or ())["injection_strength"] for setting in settings]
    return [float(strength) for strength in found]


def fractions_of(plan: Plan) -> list[float]:
    """T_a that a plan sweeps λ at."""
    return [fraction for fraction in ALL_FRACTIONS if len(dci_curve(plan, fraction)) > 1]


def steps_curve(plan: Plan, method: Method) -> list[Setting]:
    """A fine-tuning over its checkpoints, sampled plainly."""
    found = [plan.find(PLAIN, method, steps) for steps in method.checkpoints]
    return [setting for setting in found if setting is not None]


def others_of(plan: Plan) -> dict[str, list[Setting]]:
    """What DCI is measured against, by name: what costs nothing instead, and other fine-tunings over their steps.

    Each curve of the training that is repaired goes from no likeness, the demo model or the auxiliary prompt, to plain sampling.
    """

    def said(noun: str) -> list[Sampling]:
        return [first_said(noun, fraction) for fraction in ALL_FRACTIONS]

    edited, *others = plan.methods
    return {
        "stopped earlier": [*settings_of(plan, [BASE]), *steps_curve(plan, edited)],
        "weaker weights": settings_of(plan, [BASE, *WEAKER, PLAIN]),
        "the class noun first": settings_of(plan, [BASE, *said(CLASS_NOUN), PLAIN]),
        "the auxiliary noun first": settings_of(plan, [AUXILIARY_ALONE, *said(AUXILIARY_NOUN), PLAIN]),
        **{f"{method.name} over its steps": steps_curve(plan, method) for method in others},
    }


def scored_axes(results: Results) -> tuple[str, ...]:
    """All axes where a setting has alignments by a CLIP, else the judge's alone."""
    return AXES if any(results.values(setting, AXES[-1]) is not None for setting in results.plan.settings) else JUDGED
