"""λ per map size and over time (the paper's figure 11: small maps bring objects in, large ones style)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import Enum

from ..errors import UserInputError

MapSize = tuple[int, int]


class MapScale(str, Enum):
    """Edge of a layer's map as a share of the latent's: 64, 32, 16, 8 at 512² in SD1.x; SDXL has half and quarter."""

    FULL = "full"
    HALF = "half"
    QUARTER = "quarter"
    EIGHTH = "eighth"


def map_scale(size: MapSize, latent_size: MapSize) -> MapScale:
    """Return the scale nearest to a map's; smaller than an eighth counts as an eighth.

    Args:
        size: (h, w) of the layer's map.
        latent_size: (h, w) of the latent the network was given.
    """
    halvings = round(0.5 * math.log2(math.prod(latent_size) / math.prod(size)))
    return list(MapScale)[min(max(halvings, 0), 3)]


@dataclass(frozen=True)
class StrengthSchedule:
    """What is added to λ, by map size and by time; every field's neutral value is 0.

    Args:
        full_maps: added in layers whose map is as large as the latent.
        half_maps: of half its edge.
        quarter_maps: of a quarter.
        eighth_maps: of an eighth and smaller.
        at_start: added at the run's first timestep.
        at_end: added where the active part ends; between the two, linear in the timestep.

    Raises:
        UserInputError: a value is not finite.
    """

    full_maps: float = 0.0
    half_maps: float = 0.0
    quarter_maps: float = 0.0
    eighth_maps: float = 0.0
    at_start: float = 0.0
    at_end: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value):
                raise UserInputError(f"{field.name} must be a finite number, but got {value}. 0 adds nothing to λ.")

    def strength(self, injection_strength: float, scale: MapScale, progress: float) -> float:
        """Return the λ of one layer at one model call.

        Args:
            injection_strength: the run's λ.
            scale: of the layer's map.
            progress: share of the active part that is over, 0 … 1.
        """
        by_time = self.at_start + (self.at_end - self.at_start) * progress
        return float(injection_strength + getattr(self, f"{scale.value}_maps") + by_time)


def active_progress(timestep: float, first_timestep: float, last_timestep: float) -> float:
    """Return which share of the active part is over at a timestep, 0 … 1.

    Args:
        timestep: of the model call.
        first_timestep: t_start, of the run's first noise level.
        last_timestep: t_start·(1 - T_a), where the active part ends.
    """
    if first_timestep <= last_timestep:
        return 0.0
    return min(max((first_timestep - timestep) / (first_timestep - last_timestep), 0.0), 1.0)
