"""Likeness against obedience, a point for each λ: where each lies, and where there is room for its label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from chart import Anchor, Chart, Dot, Label, Line, Point
from comfyui_dci.dci_core.pictures.drawing import nice_ticks
from demo_page import ScorePoint, dial_position
from palette import dial_colour

WIDTH, HEIGHT = 560.0, 476.0
LEFT, TOP, RIGHT, BOTTOM = 56.0, 30.0, 12.0, 58.0  # room beside the field, for the axes' texts
INSET = 16.0  # from the field's edge to a point at the end of an axis
LEAST_SPAN = 0.1  # of an axis; less would make noise look like a result
MOST_TICKS = 6
LETTER_WIDTH = 0.56  # of the size of a label, on average
LABEL_SIZE = 16.0


@dataclass(frozen=True)
class Axis:
    """A range of scores.

    Args:
        ticks: round values, ascending; the first and the last are its ends.
    """

    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Return where a value lies: 0 at the first tick, 1 at the last."""
        return (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])


def axis_of(values: Sequence[float]) -> Axis:
    """Return the axis that shows all values, each finite; within 0 … 1 where they are."""
    low, high = min(values), max(values)
    margin = max(LEAST_SPAN - (high - low), 0.0) / 2
    least, most = (0.0 if low >= 0 else low), (1.0 if high <= 1 else high)
    low, high = low - margin, high + margin
    if low < least:
        low, high = least, high + least - low
    if high > most:
        low, high = low + most - high, most
    return Axis(nice_ticks(low, high, MOST_TICKS))


def axes_of(points: Sequence[ScorePoint]) -> tuple[Axis, Axis]:
    """Return the axis of likeness, to the right, and that of obedience, up."""
    return axis_of([point.likeness for point in points]), axis_of([point.obedience for point in points])


def places_of(points: Sequence[ScorePoint]) -> list[Point]:
    """Return where each point lies in the chart."""
    across, up = axes_of(points)
    return [(_x(across.share(point.likeness)), _y(up.share(point.obedience))) for point in points]


def score_chart(points: Sequence[ScorePoint]) -> Chart:
    """Return the chart of scores: a dot a λ, joined in their order, and a square for "no DCI".

    Args:
        points: one at least, λ ascending.
    """
    across, up = axes_of(points)
    places = places_of(points)
    marks: list[Line | Dot | Label] = []
    for tick in across.ticks:
        x = _x(across.share(tick))
        marks += [
            Line(((x, TOP), (x, HEIGHT - BOTTOM)), "line", 1),
            Label((x, HEIGHT - BOTTOM + 16), f"{tick:g}", size=14),
        ]
    for tick in up.ticks:
        y = _y(up.share(tick))
        marks += [
            Line(((LEFT, y), (WIDTH - RIGHT, y)), "line", 1),
            Label((LEFT - 10, y), f"{tick:g}", anchor="end", size=14),
        ]
    marks.append(Label(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16), "likeness: is it this very subject", "ink"))
    marks.append(Label((0, 12), "obedience: is what was asked for there", "ink", "start"))
    dial = tuple(place for place, point in zip(places, points) if not point.plain)
    marks += [Line(dial, "faint", 2)] if len(dial) > 1 else []
    for column, (place, point) in enumerate(zip(places, points)):
        position = dial_position(column, len(points))
        marks += [] if point.plain or position is None else [Dot(place, dial_colour(position))]
    marks += [Dot(place, "ink", filled=False, radius=9) for place, point in zip(places, points) if point.plain]
    marks += label_marks([point.label for point in points], places)
    said = "; ".join(f"{p.label}: likeness {p.likeness:.2f}, obedience {p.obedience:.2f}" for p in points)
    return Chart(WIDTH, HEIGHT, said, tuple(marks))


def label_marks(labels: Sequence[str], places: Sequence[Point]) -> list[Label]:
    """Return a label beside each place, where it covers the least of other labels, places and the way between them."""
    taken = [_around(x, y, 10) for x, y in places]
    taken += [_around(x, y, 4) for one, other in pairwise(places[1:]) for x, y in _between(one, other)]
    marks = []
    for label, (x, y) in zip(labels, places):
        width = len(label) * LETTER_WIDTH * LABEL_SIZE
        tries: list[tuple[float, float, Anchor]] = [
            *((x + dx, y + dy, "start") for dx, dy in ((14, 0), (11, -15), (11, 15))),
            *((x - dx, y + dy, "end") for dx, dy in ((14, 0), (11, -15), (11, 15))),
            *((x, y + dy, "middle") for dy in (-21, 21, -36, 36)),
        ]
        boxes = [_box(a, b, anchor, width) for a, b, anchor in tries]
        cost = [sum(_overlap(box, other) for other in taken) + _outside(box) for box in boxes]
        best = cost.index(min(cost))
        taken.append(boxes[best])
        a, b, anchor = tries[best]
        marks.append(Label((a, b), label, "ink", anchor, LABEL_SIZE))
    return marks


Box = tuple[float, float, float, float]


def _around(x: float, y: float, reach: float) -> Box:
    return x - reach, y - reach, x + reach, y + reach


def _between(one: Point, other: Point) -> list[Point]:
    """Return points on the way from one to another, at most 8 units apart."""
    parts = math.ceil(math.dist(one, other) / 8) or 1
    return [
        (one[0] + (other[0] - one[0]) * part / parts, one[1] + (other[1] - one[1]) * part / parts)
        for part in range(parts)
    ]


def _box(x: float, y: float, anchor: Anchor, width: float) -> Box:
    left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width
    return left, y - LABEL_SIZE / 2, left + width, y + LABEL_SIZE / 2


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _outside(box: Box) -> float:
    """Return how much of a box lies outside the field."""
    field: Box = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, field)


def _x(share: float) -> float:
    return LEFT + INSET + share * (WIDTH - LEFT - RIGHT - 2 * INSET)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - INSET - share * (HEIGHT - TOP - BOTTOM - 2 * INSET)
