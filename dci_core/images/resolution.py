"""The edge of the images that a run makes or trains on."""

from __future__ import annotations

from ..errors import UserInputError
from ..families import FAMILIES
from ..setting import setting

LEAST_PX, MOST_PX = 64, 2048
STEP_PX = max(family.pixels_per_latent for family in FAMILIES.values())
*_SMALLER_PX, _LARGEST_PX = sorted({family.native_resolution for family in FAMILIES.values()})
RESOLUTION = setting(
    "Edge of the images in pixels.",
    f"0 is the model's own ({', '.join(map(str, _SMALLER_PX))} or {_LARGEST_PX}).",
    offered=(0, MOST_PX),
    step=STEP_PX,
)
"""Metadata of the field that holds it."""


def check_resolution(resolution: int) -> None:
    """Refuse an edge that no model can take.

    Raises:
        UserInputError: it is neither 0 nor a multiple of 8 between 64 and 2048.
    """
    if resolution % STEP_PX or not (resolution == 0 or LEAST_PX <= resolution <= MOST_PX):
        raise UserInputError(
            f"resolution must be 0 or a multiple of {STEP_PX} between {LEAST_PX} and {MOST_PX}, but got {resolution}. "
            "0 is the model's own."
        )
