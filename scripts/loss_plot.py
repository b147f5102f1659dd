"""The loss of a training: each step, and the mean of the last ones, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chart import Chart, Label, Line, Point
from comfyui_dci.dci_core.pictures.drawing import nice_ticks
from comfyui_dci.dci_core.pictures.loss_curve import WINDOW, running_mean

WIDTH, HEIGHT = 560.0, 230.0
LEFT, TOP, RIGHT, BOTTOM = 64.0, 30.0, 24.0, 34.0
MOST_POINTS = 400  # of a line; longer runs are shown by means of neighbours


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return (step, value) of each value, or of equal groups of them where they are more than ``most``: middle and mean."""
    group = -(-len(values) // most)
    parts = [(start, values[start : start + group]) for start in range(0, len(values), group)]
    return [(start + (len(part) + 1) / 2, sum(part) / len(part)) for start, part in parts]


def loss_chart(losses: Sequence[float], width: float = WIDTH) -> Chart:
    """Return the chart of a run's losses.

    Args:
        losses: of each step; those that are not finite are left out, and one at least is.
        width: of the chart, in its units; its height and letters stay.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    each, mean = thinned(finite), thinned(running_mean(finite, WINDOW))
    values = [value for _, value in each]
    low, high = min(values), max(values)
    spread = max(high - low, 0.01 * abs(high), 1e-6)
    ticks = nice_ticks(max(low - 0.02 * spread, 0.0) if low >= 0 else low, high + 0.02 * spread, 5)

    def place(step: float, value: float) -> Point:
        x = LEFT + (step - 1) / max(len(losses) - 1, 1) * (width - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM)

    marks: list[Line | Label] = []
    for tick in ticks:
        y = place(1, tick)[1]
        marks += [
            Line(((LEFT, y), (width - RIGHT, y)), "line", 1),
            Label((LEFT - 10, y), f"{tick:g}", anchor="end", size=14),
        ]
    marks.append(Line(tuple(place(*point) for point in each), "faint", 1))
    marks.append(Line(tuple(place(*point) for point in mean), "curve", 3))
    marks.append(Label((LEFT, HEIGHT - 14), "step 1", anchor="start", size=14))
    marks.append(Label((width - RIGHT, HEIGHT - 14), str(len(losses)), anchor="end", size=14))
    marks += [
        Label((LEFT, 12), "each step", "faint", "start"),
        Label((LEFT + 92, 12), f"mean of the last {WINDOW}", "curve", "start"),
    ]
    return Chart(width, HEIGHT, f"{len(losses)} losses, from {mean[0][1]:.3g} to {mean[-1][1]:.3g}", tuple(marks))
