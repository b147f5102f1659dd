"""A small drawing of lines, dots and texts, described once and drawn twice: as SVG and with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from lettering import ANCHORS, write
from palette import DARK, Role
from PIL import Image, ImageDraw

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
RIM = 3.0  # width of the line around an empty square
FINENESS = 3  # pixels to a side that Pillow's lines are drawn with for one; it draws hard edges


@dataclass(frozen=True)
class Line:
    """A line through points.

    Args:
        points: x to the right, y down, in units of the chart.
        role: of its colour.
        width: in units.
    """

    points: tuple[Point, ...]
    role: Role
    width: float = 1.5


@dataclass(frozen=True)
class Dot:
    """A filled circle, or an empty square that stands on its corner.

    Args:
        at: its middle.
        colour: "#rrggbb", or the role of one.
        filled: a circle; otherwise the square.
        radius: in units.
    """

    at: Point
    colour: str
    filled: bool = True
    radius: float = 7.0


@dataclass(frozen=True)
class Label:
    """A line of text.

    Args:
        at: where it starts, has its middle or ends, half-way up.
        text: any; drawn as it is.
        role: of its colour.
        anchor: what is at ``at``.
        size: of the letters, in units.
    """

    at: Point
    text: str
    role: Role = "faint"
    anchor: Anchor = "middle"
    size: float = 15.0


@dataclass(frozen=True)
class Chart:
    """What is to be drawn.

    Args:
        width, height: in units; a unit is a pixel where nothing is scaled.
        says: what one sees, in words, for those who do not.
        marks: later ones lie on earlier ones.
    """

    width: float
    height: float
    says: str
    marks: tuple[Line | Dot | Label, ...]


def svg(chart: Chart) -> str:
    """Return a chart as an ``svg`` element; colours of roles are the page's variables ``--role``."""
    opening = f'<svg viewBox="0 0 {chart.width:g} {chart.height:g}" role="img" aria-label="{escape(chart.says)}">'
    return "".join([opening, *(_svg_mark(mark) for mark in chart.marks), "</svg>"])


def draw(chart: Chart, width_px: int, ground: Role = "card") -> Image.Image:
    """Return a chart drawn by Pillow in dark colours, as wide as that and as high as that makes it, on that ground."""
    scale = width_px * FINENESS / chart.width
    size = (width_px * FINENESS, round(chart.height * scale))
    canvas = Image.new("RGB", size, DARK[ground])
    for mark in chart.marks:
        _draw_mark(canvas, mark, scale)
    return canvas.resize((width_px, round(size[1] / FINENESS)), Image.Resampling.LANCZOS)


def _svg_mark(mark: Line | Dot | Label) -> str:
    if isinstance(mark, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark.points)
        return f'<polyline points="{points}" fill="none" stroke="var(--{mark.role})" stroke-width="{mark.width:g}"/>'
    x, y = mark.at
    if isinstance(mark, Label):
        return (
            f'<text x="{x:.1f}" y="{y:.1f}" dy=".35em" text-anchor="{mark.anchor}" font-size="{mark.size:g}" '
            f'fill="var(--{mark.role})">{escape(mark.text)}</text>'
        )
    colour = mark.colour if mark.colour.startswith("#") else f"var(--{mark.colour})"
    if mark.filled:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{mark.radius:g}" fill="{colour}"/>'
    corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in _diamond(mark.at, mark.radius))
    return f'<polygon points="{corners}" fill="none" stroke="{colour}" stroke-width="{RIM:g}"/>'


def _draw_mark(canvas: Image.Image, mark: Line | Dot | Label, scale: float) -> None:
    pen = ImageDraw.Draw(canvas)
    if isinstance(mark, Line):
        points = [(x * scale, y * scale) for x, y in mark.points]
        pen.line(points, DARK[mark.role], max(1, round(mark.width * scale)), joint="curve")
        return
    x, y = (value * scale for value in mark.at)
    if isinstance(mark, Label):
        write(canvas, (x, y), mark.text, mark.size * scale, DARK[mark.role], ANCHORS[mark.anchor])
        return
    colour = next((shade for role, shade in DARK.items() if role == mark.colour), mark.colour)
    radius = mark.radius * scale
    if mark.filled:
        pen.ellipse([(x - radius, y - radius), (x + radius, y + radius)], colour)
    else:
        corners = _diamond((x, y), radius)
        pen.line([*corners, *corners[:2]], colour, round(RIM * scale), joint="curve")


def _diamond(at: Point, radius: float) -> Sequence[Point]:
    x, y = at
    return [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]
