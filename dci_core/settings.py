"""Settings of one DCI run, checked once where they enter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from .errors import UserInputError
from .region import check_region
from .strength import StrengthSchedule


class MaskPreset(str, Enum):
    """How token attention becomes blend masks (METHOD section 3).

    ``reference`` is the published code, ``paper`` eq. 3-4 taken literally (its masks stay near one half),
    ``resolution_normalized`` the published code with the gain scaled by latent area, so that small and
    large images weigh context and concept as native-size ones do.
    """

    REFERENCE = "reference"
    PAPER = "paper"
    RESOLUTION_NORMALIZED = "resolution_normalized"


class Blend(str, Enum):
    """What happens to the two branches' outputs: eq. 5, or the paper's "w/o mask" ablation and its average."""

    MASKS = "masks"
    SUM = "sum"
    MEAN = "mean"


class Layers(str, Enum):
    """Which cross-attention layers are blended; ``last`` is the paper's "w/o deep aggregation" ablation."""

    ALL = "all"
    LAST = "last"


@dataclass(frozen=True)
class DCISettings:
    """Everything that shapes the two-branch part of a run.

    Args:
        injection_strength: λ of eq. 4. Higher lets the context speak louder, lower favours the
            likeness; -2 … 2 is useful, any finite number is allowed.
        active_fraction: T_a, share of the denoising in which both branches run, 0 … 1. 0 is plain sampling.
        share_guidance: True reuses the concept branch's unconditional prediction (3 rows per active
            step instead of 4).
        mask_preset: how masks are computed.
        blend: masks (eq. 5) or one of the ablations.
        layers: all cross-attention layers, or only the last.
        share_noise: True starts the auxiliary branch from the concept's own noise.
        strength_schedule: what is added to λ by map size and time; the default adds nothing.
        auxiliary_mask: where the auxiliary branch may speak, [B, H, W] or [H, W] over the whole image, values 0
            (the concept alone) … 1; None is everywhere.
        forced_auxiliary_weight: replaces W_a everywhere (0 … 1); None computes it. A switch for tests
            and studies, not offered by the nodes.

    Raises:
        UserInputError: a value is outside its range.
    """

    injection_strength: float = 0.0
    active_fraction: float = 0.15
    share_guidance: bool = True
    mask_preset: MaskPreset = MaskPreset.REFERENCE
    blend: Blend = Blend.MASKS
    layers: Layers = Layers.ALL
    share_noise: bool = False
    strength_schedule: StrengthSchedule = field(default_factory=StrengthSchedule)
    auxiliary_mask: Tensor | None = field(default=None, compare=False)
    forced_auxiliary_weight: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.injection_strength):
            raise UserInputError(
                f"injection_strength must be a finite number, but got {self.injection_strength}. Try 0."
            )
        if not 0.0 <= self.active_fraction <= 1.0:
            raise UserInputError(
                f"active_fraction must be between 0 and 1, but got {self.active_fraction}. The paper uses 0.15."
            )
        if self.auxiliary_mask is not None:
            object.__setattr__(self, "auxiliary_mask", check_region(self.auxiliary_mask))
        forced = self.forced_auxiliary_weight
        if forced is not None and not 0.0 <= forced <= 1.0:
            raise UserInputError(f"forced_auxiliary_weight must be between 0 and 1, but got {forced}.")
        for name, kind in (("mask_preset", MaskPreset), ("blend", Blend), ("layers", Layers)):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                allowed = ", ".join(member.value for member in kind)
                raise UserInputError(f"{name} must be one of {allowed}, but got {value!r}.") from None
