"""Curves of likeness against obedience, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
REACH = 0.05  # of likeness
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


def bootstrap(values: Array, statistic: Callable[[Array], float], seed: int = 0) -> Interval:
    """A statistic with its 95 % interval, by drawing subjects with replacement.

    Subjects, not pictures, are drawn: pictures of one subject are alike, and the claim is about new subjects.

    Args:
        values: [subjects, ...], one entry per subject.
        statistic: of the mean over subjects, [...].
        seed: of the draws.

    Returns:
        The statistic, and the lower and upper end of its interval; NaN draws are left out.
    """
    return nested_bootstrap(values[:, None], statistic, seed)


def nested_bootstrap(values: Array, statistic: Callable[[Array], float], seed: int = 0) -> Interval:
    """A statistic with its 95 % interval, by drawing subjects, and trainings of each, with replacement.

    Args:
        values: [subjects, trainings, ...]; paired differences, where a difference is told.
        statistic: of the mean over both, [...].
        seed: of the draws.

    Returns:
        As `bootstrap`.
    """
    subjects, trainings = values.shape[:2]
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, subjects, (RESAMPLES, subjects))
    of_each = rng.integers(0, trainings, (RESAMPLES, subjects, trainings))
    means = [values[index[:, None], own].mean(axis=(0, 1)) for index, own in zip(drawn, of_each, strict=True)]
    found = np.array([statistic(mean) for mean in means])
    found = found[np.isfinite(found)]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(found, [tail, 100 - tail]) if len(found) else (np.nan, np.nan)
    return statistic(values.mean(axis=(0, 1))), float(low), float(high)


def verdict(low: float, high: float, words: Sequence[str] = ("above", "below", "not told apart")) -> str:
    """Which side of zero an interval lies on: the first word, the second, or the third."""
    if low > 0:
        return words[0]
    return words[1] if high < 0 else words[2]
