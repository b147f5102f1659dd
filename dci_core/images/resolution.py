"""The edge of the images that a run makes or trains on."""

from __future__ import annotations

from ..errors import UserInputError
from ..setting import setting

LEAST_PX, MOST_PX, STEP_PX = 64, 2048, 8
RESOLUTION = setting(
    "Edge of the images in pixels.",
    "0 is the model's own (512, 768 or 1024).",
    offered=(0, MOST_PX),
    step=STEP_PX,
)
"""Metadata of the field that holds it."""


def check_resolution(edge_px: int) -> None:
    """Refuse an edge that no model can take.

    Raises:
        UserInputError: it is neither 0 nor a multiple of 8 between 64 and 2048.
    """
    if edge_px % STEP_PX or not (edge_px == 0 or LEAST_PX <= edge_px <= MOST_PX):
        raise UserInputError(
            f"resolution must be 0 or a multiple of {STEP_PX} between {LEAST_PX} and {MOST_PX}, but got {edge_px}. "
            "0 is the model's own."
        )
