"""Curves of likeness against obedience, and how sure a difference is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
REACH = 0.05  # of likeness
HALVINGS = 60  # of the angle, to find a quantile
Array = NDArray[np.float64]
Interval = tuple[float, float, float]
"""A statistic with the lower and upper end of its interval."""


def curve_gap(curve: Array, reference: Array, reach: float = REACH) -> float:
    """How far a curve lies above another one: the mean difference of obedience at equal likeness.

    Up to ``reach`` beyond its most faithful point a reference counts with its obedience there: what makes it more faithful
    still lowers obedience, so this favours the reference.

    Args:
        curve: [n, 2], points of (likeness, obedience), any order.
        reference: [m, 2], as `curve`; between its points it is taken as straight.
        reach: of likeness, 0 or more; 0 compares only where both curves are.

    Returns:
        Mean over those of `curve`'s points whose likeness `reference` reaches; NaN if there is none.
    """
    ordered = reference[np.argsort(reference[:, 0])]
    inside = (curve[:, 0] >= ordered[0, 0]) & (curve[:, 0] <= ordered[-1, 0] + reach)
    if not inside.any():
        return float("nan")
    expected = np.interp(curve[inside, 0], ordered[:, 0], ordered[:, 1])
    return float((curve[inside, 1] - expected).mean())


def interval_over_subjects(values: Array, statistic: Callable[[Array], float] = float) -> Interval:
    """A statistic with its 95 % interval over subjects: Student's t on the jackknife, which leaves one subject out at a time.

    Of a mean this is the usual t interval over subjects' means. Subjects, not trainings or pictures, are left out: those of one
    subject are alike, and the claim is about new subjects. What trainings and pictures scatter is in the subjects' means already.

    Args:
        values: [subjects, ...], one mean over trainings and pictures per subject; paired differences, where a difference is told.
        statistic: of the mean over subjects, [...].

    Returns:
        The statistic, and the lower and upper end of its interval; these are infinite with one subject, and where the
        statistic is not there without one of the subjects.
    """
    count, found = len(values), statistic(values.mean(axis=0))
    if count < 2:
        return found, -math.inf, math.inf
    without = np.array([statistic(np.delete(values, place, axis=0).mean(axis=0)) for place in range(count)])
    error = math.sqrt((count - 1) * float(without.var()))
    if not math.isfinite(error):
        return found, -math.inf, math.inf
    reach = student_quantile((1 + CONFIDENCE) / 2, count - 1) * error
    return found, found - reach, found + reach


@cache
def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t, exact but for rounding.

    Args:
        probability: above 0 and below 1.
        degrees: of freedom, 1 or more.

    Raises:
        ValueError: another probability, or less than one degree of freedom.
    """
    if not 0 < probability < 1 or degrees < 1:
        raise ValueError(
            f"A quantile is asked for at probability {probability:g} with {degrees} degrees of freedom; "
            "give a probability between 0 and 1 and at least one degree, which takes two subjects."
        )
    low, high = -math.pi / 2, math.pi / 2
    for _ in range(HALVINGS):
        angle = (low + high) / 2
        low, high = (angle, high) if _student_below(angle, degrees) < probability else (low, angle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _student_below(angle: float, degrees: int) -> float:
    """Probability that Student's t lies below tan(angle)·√degrees (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    term, total = (math.cos(angle) if degrees % 2 else 1.0), 0.0
    for power in range(1 + degrees % 2, degrees, 2):
        total += term
        term *= power / (power + 1) * math.cos(angle) ** 2
    within = math.sin(angle) * total
    return (1 + (2 / math.pi * (angle + within) if degrees % 2 else within)) / 2


def verdict(low: float, high: float, words: Sequence[str] = ("above", "below", "not told apart")) -> str:
    """Which side of zero an interval lies on: the first word, the second, or the third."""
    if low > 0:
        return words[0]
    return words[1] if high < 0 else words[2]
