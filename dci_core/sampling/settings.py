"""Settings of one DCI run, checked once where they enter."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from ..setting import check_settings, setting
from .region import check_region
from .strength import OFFERED_STRENGTHS, STRENGTH_STEP, StrengthSchedule


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

    @property
    def remark(self) -> str:
        """What each run with it is told; "" where there is nothing to say."""
        return "mask preset paper keeps weights near one half whatever λ is" if self is MaskPreset.PAPER else ""


class AuxiliarySteps(str, Enum):
    """How the auxiliary latent gets from one model call of the sampler to the next.

    The two differ with shared guidance only, and hardly for 200 steps and more.
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
    """Everything that shapes the two-branch part of a run. What each field does is told in its metadata.

    Args:
        auxiliary_mask: [B, H, W] or [H, W] over the whole image, values 0 (the concept alone) … 1; None is everywhere.

    Raises:
        UserInputError: a value is outside its range.
    """

    injection_strength: float = field(
        default=0.0,
        metadata=setting(
            "λ, the dial. -2 keeps to your subject (the scene has a fifth of the say), 2 lets the scene of the prompt "
            "speak (two thirds).",
            "0 is the middle of likeness and obedience (a third); to switch DCI off, set active_fraction to 0.",
            offered=OFFERED_STRENGTHS,
            step=STRENGTH_STEP,
        ),
    )
    active_fraction: float = field(
        default=0.2,
        metadata=setting(
            "T_a, share of the denoising, from its noisy start, in which the auxiliary branch runs. Higher changes more "
            "and costs more: 0.2 of 20 steps are 4 steps with two branches.",
            "0 is plain sampling, bit for bit; the paper uses 0.15 of 200 steps, its code 0.2 and 0.3.",
            allowed=(0, 1),
            step=0.01,
        ),
    )
    share_guidance: bool = field(
        default=True,
        metadata=setting(
            "On: the auxiliary branch uses the concept branch's unconditional prediction (3 rows per active step, the "
            "published default). Off: it computes its own (4 rows)."
        ),
    )
    mask_preset: MaskPreset = field(
        default=MaskPreset.CALIBRATED,
        metadata=setting(
            "How token attention becomes masks. calibrated: λ means the same on every model and at every size. "
            "reference: the published code's constants, which fit SD1.5 at 512 pixels (there both are the same). "
            "resolution_normalized: these, independent of image size. paper: the formulas taken literally; masks stay "
            "near one half."
        ),
    )
    blend: Blend = field(
        default=Blend.MASKS,
        metadata=setting(
            "masks: blend by token masks. sum, mean: the paper's ablation without masks, and its average."
        ),
    )
    layers: Layers = field(
        default=Layers.ALL,
        metadata=setting("all: every cross-attention layer. last: only the last one, the paper's ablation."),
    )
    share_noise: bool = field(
        default=False,
        metadata=setting("Off: the auxiliary branch starts from its own noise. On: from the concept branch's."),
    )
    auxiliary_steps: AuxiliarySteps = field(
        default=AuxiliarySteps.FINE,
        metadata=setting(
            "How the auxiliary branch gets from one model call to the next. fine: by steps as short as the published "
            "code's 200, at no cost. single: by one step, as the published code does; with few steps and shared guidance "
            "it leaves the range the model knows."
        ),
    )
    auxiliary_eta: float = field(
        default=0.0,
        metadata=setting(
            "New noise at each step of the auxiliary branch: 1 is as much as an ancestral sampler's (the published "
            "code's default).",
            "0 is without new noise.",
            allowed=(0, 1),
            step=0.05,
        ),
    )
    strength_schedule: StrengthSchedule = field(
        default_factory=StrengthSchedule,
        metadata=setting(
            "From DCI Strength Schedule: λ by map size and over time.", "Unconnected: the same λ everywhere."
        ),
    )
    auxiliary_mask: Tensor | None = field(
        default=None,
        compare=False,
        metadata=setting(
            "Where the scene may speak: white is as ever, black is your subject's branch alone. Of any size; it is "
            "stretched over the image.",
            "Unconnected: everywhere.",
        ),
    )
    forced_auxiliary_weight: float | None = field(
        default=None,
        metadata=setting(
            "Replaces W_a everywhere. For tests and studies, not offered by the nodes.",
            "None computes it.",
            allowed=(0, 1),
        ),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.auxiliary_mask is not None:
            object.__setattr__(self, "auxiliary_mask", check_region(self.auxiliary_mask))
