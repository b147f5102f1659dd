"""The colours of the demo's page, by what they are for, on a light and on a dark ground."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Role = Literal["ground", "card", "ink", "faint", "line", "accent", "curve"]

LIGHT: Mapping[Role, str] = {
    "ground": "#f7f6f3",
    "card": "#ffffff",
    "ink": "#22242a",
    "faint": "#666a73",
    "line": "#e3e1dc",
    "accent": "#b4501e",
    "curve": "#2f6fb2",
}
DARK: Mapping[Role, str] = {
    "ground": "#18191c",
    "card": "#212329",
    "ink": "#e4e6ea",
    "faint": "#9da1ab",
    "line": "#363941",
    "accent": "#f0a565",
    "curve": "#6eb0ee",
}
DIAL_ENDS = ((63, 143, 217), (230, 131, 53))
"""What the smallest and the largest λ of a run are marked with, as RGB 0 … 255; to be seen on both grounds."""


def dial_colour(position: float) -> str:
    """Return the colour of a λ.

    Args:
        position: 0 for the smallest of a run, 1 for the largest.
    """
    low, high = DIAL_ENDS
    return "#" + "".join(f"{round(a + (b - a) * position):02x}" for a, b in zip(low, high))
