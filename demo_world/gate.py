"""What the demo model must reach before it ships: shares of pictures in which the judge sees what the caption says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image, ImageDraw

from demo_world.truth import Tally

CAPTION_SEED = 5150  # of no training
GATE: dict[str, float] = {"noun": 0.93, "second noun": 0.90, "context": 0.97, "style": 0.95, "colour": 0.95}
_Z = 1.959964  # of a 95 % interval
_LABEL_PX = 26


def interval(tally: Tally) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927), 0 … 1; the whole range where nothing was asked."""
    if not tally.of:
        return 0.0, 1.0
    share, spread = tally.share, _Z**2 / tally.of
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Line:
    """A line of the gate's table.

    Args:
        what: was asked.
        right: share of pictures, 0 … 1.
        low: end of its 95 % interval.
        high: the other end.
        pictures: that were asked.
        gate: what must be reached; None where nothing must.
    """

    what: str
    right: float
    low: float
    high: float
    pictures: int
    gate: float | None

    @property
    def passes(self) -> bool:
        """Whether the share reaches the gate."""
        return self.gate is None or self.right >= self.gate


def gate_lines(tallies: dict[str, Tally]) -> list[Line]:
    """The gate's table, without the sprite: a caption names none."""
    return [
        Line(what, tally.share, *interval(tally), tally.of, GATE.get(what))
        for what, tally in tallies.items()
        if what != "exemplar"
    ]


def table(lines: Sequence[Line]) -> str:
    """The table in Markdown."""
    rows = ["| | right | 95 % interval | pictures | gate | |", "|---|---|---|---|---|---|"]
    for line in lines:
        gate = "" if line.gate is None else f"{100 * line.gate:.0f} %"
        verdict = "" if line.gate is None else "reached" if line.passes else "missed"
        span = f"{100 * line.low:.1f} … {100 * line.high:.1f} %"
        rows.append(f"| {line.what} | {100 * line.right:.1f} % | {span} | {line.pictures} | {gate} | {verdict} |")
    return "\n".join(rows)


def facts(lines: Sequence[Line]) -> list[dict[str, str | float | int | None]]:
    """The table as plain data."""
    return [asdict(line) for line in lines]


def contact_sheet(pictures: np.ndarray, captions: Sequence[str], columns: int, side_px: int = 160) -> Image.Image:
    """Pictures [N, h, w, 3], uint8, scaled to `side_px`, in rows with their captions in two lines underneath."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side_px, rows * (side_px + _LABEL_PX)), (245, 245, 245))
    pen = ImageDraw.Draw(sheet)
    for index, (picture, text) in enumerate(zip(pictures, captions, strict=True)):
        x, y = index % columns * side_px, index // columns * (side_px + _LABEL_PX)
        sheet.paste(Image.fromarray(picture).resize((side_px, side_px), Image.Resampling.LANCZOS), (x, y))
        words = text.split()
        half = (len(words) + 1) // 2
        label = f"{' '.join(words[:half])}\n{' '.join(words[half:])}"
        pen.text((x + 2, y + side_px), label, fill=(0, 0, 0), font_size=10)
    return sheet
