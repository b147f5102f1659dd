"""The figure of a plan: likeness against obedience, a curve for each way to trade one for the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from study.cells import ALIGNED, JUDGED
from study.plan import PLAIN, Setting
from study.prompts import KINDS
from study.results import Results, dci_curve, fractions_of, others_of
from study.statistics import Array, interval_over_subjects

NAMES = {
    "likeness": "likeness (judge)",
    "obedience": "obedience (judge)",
    "clip_i": "image alignment (CLIP-I)",
    "clip_t": "text alignment (CLIP-T)",
}
INCHES, DPI = (13, 5.5), 110


def curves_of(results: Results) -> dict[str, list[Setting]]:
    """The curves that are drawn, by name: DCI over λ, what costs nothing instead, other fine-tunings."""
    plan = results.plan
    dci = {f"DCI over λ, T_a {fraction:g}": dci_curve(plan, fraction) for fraction in fractions_of(plan)}
    return {**dci, **others_of(plan)}


def draw_curves(results: Results, path: Path) -> None:
    """Write a PNG: on the left by the judge; on the right by the CLIP where plain sampling has alignments, else scenes alone.

    Bars are 95 % intervals of the paired difference from plain sampling.

    Args:
        results: curves with missing cells are left out.
        path: of the file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    _panel(left, results, JUDGED, KINDS)
    left.set_title("All prompts, by the judge")
    if results.points(results.plan.find(PLAIN), ALIGNED) is not None:
        _panel(right, results, ALIGNED, KINDS)
        right.set_title("All prompts, by the demo world's CLIP")
    else:
        _panel(right, results, JUDGED, ("context", "second noun"))
        right.set_title("Scenes (contexts and second objects), by the judge")
    if left.lines:
        left.legend(fontsize=8)
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def _panel(axes: Any, results: Results, measured: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    plain = results.points(results.plan.find(PLAIN), measured, kinds)
    for name, settings in curves_of(results).items():
        points = results.curve(settings, measured, kinds)
        if points is None:
            continue
        mean = points.mean(axis=(0, 1))
        is_dci = name.startswith("DCI")
        bars = {} if plain is None else {"yerr": bars_of(points[..., 1] - plain[..., None, 1])}
        style = {"fmt": "o-" if is_dci else "s--", "linewidth": 2.0 if is_dci else 1.0, "markersize": 4, "capsize": 2}
        axes.errorbar(mean[:, 0], mean[:, 1], label=name, elinewidth=0.7, **style, **bars)
    axes.set(xlabel=NAMES[measured[0]], ylabel=NAMES[measured[1]])
    axes.grid(alpha=0.3)


def bars_of(differences: Array) -> Array:
    """How far the intervals of paired differences reach below and above their means, [2, points].

    Args:
        differences: [subjects, trainings, points].
    """
    found = [interval_over_subjects(of_point) for of_point in differences.mean(axis=1).T]
    return np.array([[mean - low, high - mean] for mean, low, high in found]).T
