"""λ per map size and over time (the paper's figure 11: small maps bring objects in, large ones style)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ..errors import UserInputError
from ..setting import Setting, check_settings, setting

MapSize = tuple[int, int]
OFFERED_STRENGTHS = (-10.0, 10.0)
"""Least and most λ that the nodes offer; about -2 … 2 is useful, and any finite number is allowed."""
STRENGTH_STEP = 0.05
MOST_STRENGTHS = 50
"""How many values a list may hold."""
DIGITS, ROUNDING = 6, 1e-6  # of a value in a range, and of how many steps fit into it


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


def _offset(where: str) -> Mapping[str, Setting]:
    return setting(
        f"{where} Higher lets the scene in there, lower keeps to your subject.",
        "0 adds nothing to λ.",
        offered=OFFERED_STRENGTHS,
        step=STRENGTH_STEP,
    )


@dataclass(frozen=True)
class StrengthSchedule:
    """What is added to λ, by map size and by time; each field's metadata tells where.

    Raises:
        UserInputError: a value is not finite.
    """

    full_maps: float = field(
        default=0.0,
        metadata=_offset("Maps as large as the latent (64 at 512 pixels in SD1.x): texture and style."),
    )
    half_maps: float = field(
        default=0.0, metadata=_offset("Maps of half the latent's edge (32 at 512 pixels; 64 at 1024 in SDXL).")
    )
    quarter_maps: float = field(
        default=0.0, metadata=_offset("Maps of a quarter (16 at 512 pixels; 32 at 1024 in SDXL).")
    )
    eighth_maps: float = field(
        default=0.0,
        metadata=_offset("Maps of an eighth and smaller (8 at 512 pixels; none in SDXL): objects and layout."),
    )
    at_start: float = field(default=0.0, metadata=_offset("At the run's first, noisiest timestep."))
    at_end: float = field(
        default=0.0,
        metadata=_offset("Where the auxiliary branch ends; between start and end it changes evenly with the timestep."),
    )

    def __post_init__(self) -> None:
        check_settings(self)

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


def parse_injection_strengths(text: str) -> tuple[float, ...]:
    """Return the λ values of a list such as "-2, -1, 0, 1, 2" or "-2:2:1", in the order given.

    Args:
        text: 1 to 50 numbers that the nodes offer, separated by commas, semicolons or white space; from:to:step stands for
            all from the first to the second, both among them where the step meets it.

    Raises:
        UserInputError: something else is in it.
    """
    words = text.replace(",", " ").replace(";", " ").replace("\N{MINUS SIGN}", "-").split()
    least, most = OFFERED_STRENGTHS
    hint = (
        f'Write numbers between {least:g} and {most:g} with commas between them, for example "-2, -1, 0, 1, 2", or '
        'from:to:step, for example "-2:2:1".'
    )
    ranges = [_range(word, hint) for word in words]
    count = sum(number for _, _, number in ranges)
    if not 1 <= count <= MOST_STRENGTHS:
        raise UserInputError(f"injection_strengths holds {count} values; 1 to {MOST_STRENGTHS} are possible. {hint}")
    return tuple(round(first + place * step, DIGITS) for first, step, number in ranges for place in range(number))


def _range(word: str, hint: str) -> tuple[float, float, int]:
    """First value, step and number of values of one word of a list."""
    if ":" not in word:
        return _strength(word, hint), 0.0, 1
    parts = word.split(":")
    if len(parts) != 3:
        raise UserInputError(f"injection_strengths holds {word!r}, which is not from:to:step. {hint}")
    first, last, step = (_strength(part, hint) for part in parts)
    if step == 0 or (last - first) * step < 0:
        raise UserInputError(
            f"injection_strengths holds {word!r}: steps of {step:g} never lead from {first:g} to {last:g}. {hint}"
        )
    return first, step, math.floor((last - first) / step + ROUNDING) + 1


def _strength(word: str, hint: str) -> float:
    least, most = OFFERED_STRENGTHS
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise UserInputError(f"injection_strengths holds {word!r}, which cannot be used. {hint}")
    return value
