"""The backgrounds of the demo world: one painter for each context phrase."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from demo_world import indoor_scenery as indoor
from demo_world import outdoor_scenery as outdoor
from demo_world import sky_scenery as sky
from demo_world.painting_tools import SIZE_PX, Painter, to_bytes
from demo_world.vocabulary import CONTEXTS

__all__ = ["PAINTERS", "SIZE_PX", "context_number", "paint_context"]

PAINTERS: dict[str, Painter] = {
    "": indoor.studio,
    "on grass": outdoor.grass,
    "in the snow": outdoor.snow,
    "on a beach": outdoor.beach,
    "at night": sky.night,
    "on a brick wall": indoor.brick_wall,
    "on a wooden floor": indoor.wooden_floor,
    "in the water": outdoor.water,
    "on a red carpet": indoor.red_carpet,
    "in a forest": outdoor.forest,
    "in the desert": outdoor.desert,
    "in space": sky.space,
    "on a tiled floor": indoor.tiled_floor,
    "in a city": outdoor.city,
    "at sunset": sky.sunset,
    "on a mountain": outdoor.mountain,
    "on autumn leaves": outdoor.autumn_leaves,
    "on a stage": indoor.stage,
    "on a road": outdoor.road,
    "in the rain": sky.rain,
    "in a flower field": outdoor.flower_field,
    "on the moon": sky.moon,
    "on a marble table": indoor.marble_table,
    "in the clouds": sky.among_clouds,
    "in a library": indoor.library,
}


def context_number(context: str) -> int:
    """Return the place of a phrase in `CONTEXTS`, from 0.

    Raises:
        ValueError: the phrase is not a context of this world.
    """
    if context not in CONTEXTS:
        raise ValueError(f"Unknown context {context!r}; choose one of {list(CONTEXTS)}.")
    return CONTEXTS.index(context)


def paint_context(context: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint the background that a context phrase names; the same generator paints the same bytes.

    Args:
        context: one of `CONTEXTS`; "" is the studio backdrop.
        rng: of which the picture is one of many of its kind.

    Returns:
        [SIZE_PX, SIZE_PX, 3], 0 ... 255.

    Raises:
        ValueError: the phrase is not a context of this world.
    """
    return to_bytes(PAINTERS[CONTEXTS[context_number(context)]](rng))
