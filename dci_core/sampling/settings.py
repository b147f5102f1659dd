"""Settings of one DCI run, checked once where they enter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from ..errors import UserInputError
from .region import check_region
from .strength import StrengthSchedule


class MaskPreset(str, Enum):
    """How token attention becomes blend masks (METHOD section 3).

    ``calibrated`` is the published code with gain and λ of each layer such that λ means on every model and size what
    it means on SD1.5 at 512² (``dial``), where it is ``reference`` bit for bit. ``reference`` is the published code,
    ``paper`` eq. 3-4 taken literally (its masks stay near one half), ``resolution_normalized`` the published code with
    the gain scaled by latent area, so that small and large images weigh context and concept as native-size ones do.
    """

    CALIBRATED = "calibrated"
    REFERENCE = "reference"
    PAPER = "paper"
    RESOLUTION_NORMALIZED = "resolution_normalized"


class AuxiliarySteps(str, Enum):
    """How the auxiliary latent gets from one model call of the sampler to the next.

    ``fine``: by steps as short as those of the published code's 200, with the predictions of the last call; no step costs a
    network evaluation. ``single``: by one step. They differ with shared guidance only, and hardly for 200 steps and more.
    """

    FINE = "fine"
    SINGLE = "single"


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
        auxiliary_steps: how the auxiliary latent moves between model calls.
        auxiliary_eta: η of the auxiliary branch's own steps, 0 … 1: 0 takes deterministic ones (DDIM), 1 draws new noise at
            each (as the published code does by default, in both branches).
        strength_schedule: what is added to λ by map size and time; the default adds nothing.
        auxiliary_mask: where the auxiliary branch may speak, [B, H, W] or [H, W] over the whole image, values 0
            (the concept alone) … 1; None is everywhere.
        forced_auxiliary_weight: replaces W_a everywhere (0 … 1); None computes it. A switch for tests
            and studies, not offered by the nodes.

    Raises:
        UserInputError: a value is outside its range.
    """

    injection_strength: float = 0.0
    active_fraction: float = 0.2
    share_guidance: bool = True
    mask_preset: MaskPreset = MaskPreset.CALIBRATED
    blend: Blend = Blend.MASKS
    layers: Layers = Layers.ALL
    share_noise: bool = False
    auxiliary_steps: AuxiliarySteps = AuxiliarySteps.FINE
    auxiliary_eta: float = 0.0
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
        if not 0.0 <= self.auxiliary_eta <= 1.0:
            raise UserInputError(
                f"auxiliary_eta must be between 0 and 1, but got {self.auxiliary_eta}. 0 is without new noise."
            )
        if self.auxiliary_mask is not None:
            object.__setattr__(self, "auxiliary_mask", check_region(self.auxiliary_mask))
        forced = self.forced_auxiliary_weight
        if forced is not None and not 0.0 <= forced <= 1.0:
            raise UserInputError(f"forced_auxiliary_weight must be between 0 and 1, but got {forced}.")
        for name, kind in (
            ("mask_preset", MaskPreset),
            ("blend", Blend),
            ("layers", Layers),
            ("auxiliary_steps", AuxiliarySteps),
        ):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                allowed = ", ".join(member.value for member in kind)
                raise UserInputError(f"{name} must be one of {allowed}, but got {value!r}.") from None
