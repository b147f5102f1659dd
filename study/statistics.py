"""Curves of fidelity against editability, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
REACH = 0.05  # of fidelity
Array = NDArray[np.float64]


def curve_gap(curve: Array, reference: Array) -> float:
    """How far a curve lies above another one: the mean difference of editability at equal fidelity.

    Up to `REACH` beyond its most faithful point a reference counts with its editability there: what makes it more faithful
    still lowers editability, so this favours the reference.

    Args:
        curve: [n, 2], points of (fidelity, editability), any order.
        reference: [m, 2], as `curve`; between its points it is taken as straight.

    Returns:
        Mean over those of `curve`'s points whose fidelity `reference` reaches; NaN if there is none.
    """
    ordered = reference[np.argsort(reference[:, 0])]
    inside = (curve[:, 0] >= ordered[0, 0]) & (curve[:, 0] <= ordered[-1, 0] + REACH)
    if not inside.any():
        return float("nan")
    expected = np.interp(curve[inside, 0], ordered[:, 0], ordered[:, 1])
    return float((curve[inside, 1] - expected).mean())


def bootstrap(values: Array, statistic: Callable[[Array], float], seed: int = 0) -> tuple[float, float, float]:
    """A statistic with its confidence interval, by drawing concepts with replacement.

    Concepts, not pictures, are drawn: pictures of one concept are alike, and the claim is about new concepts.

    Args:
        values: [concepts, ...], one entry per concept.
        statistic: of the mean over concepts, [...].
        seed: of the draws.

    Returns:
        The statistic, and the lower and upper end of its 95 % interval; NaN draws are left out.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    found = np.array([statistic(values[index].mean(axis=0)) for index in drawn])
    found = found[np.isfinite(found)]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(found, [tail, 100 - tail]) if len(found) else (np.nan, np.nan)
    return statistic(values.mean(axis=0)), float(low), float(high)


def verdict(low: float, high: float, words: Sequence[str] = ("above", "below", "not told apart")) -> str:
    """Which side of zero an interval lies on: the first word, the second, or the third."""
    if low > 0:
        return words[0]
    return words[1] if high < 0 else words[2]
