"""Settings of one training run, checked once where they enter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from ..concept.scheme import ICOScheme
from ..errors import UserInputError
from .ico import TEMPLATE_WORDS
from .presets import SD1_SCALE, PresetName, run_values

_USUAL = run_values(PresetName.WITH_DCI, SD1_SCALE)
_USUAL_RATES = (
    f" {_USUAL.learning_rate:g} (context {_USUAL.context_learning_rate:g}) suits SD1.x; -1 on the node is the preset's."
)


class TrainingMode(str, Enum):
    """What is trained, on which prompts (METHOD section 2 and its special cases).

    ``ico``: K, V, [T] and [I] on eq. 2's prompts. ``custom_diffusion``: K, V and [T] on "photo of a V* <noun>".
    ``textual_inversion``: [T] alone on that template. ``key_value``: K and V alone on that template, [T] staying the
    rare words it starts from. ``cross_attention``: as ``ico``, with Q and the output projections (their weights) too.
    """

    ICO = "ico"
    CUSTOM_DIFFUSION = "custom_diffusion"
    TEXTUAL_INVERSION = "textual_inversion"
    KEY_VALUE = "key_value"
    CROSS_ATTENTION = "cross_attention"

    @property
    def learns_contexts(self) -> bool:
        """Whether prompts have learned [I]; otherwise they follow the template."""
        return self in (TrainingMode.ICO, TrainingMode.CROSS_ATTENTION)

    @property
    def learns_tokens(self) -> bool:
        """Whether [T] is trained."""
        return self is not TrainingMode.KEY_VALUE

    @property
    def projections(self) -> tuple[str, ...]:
        """Names of the trained projections of each cross-attention layer."""
        if self is TrainingMode.TEXTUAL_INVERSION:
            return ()
        return ("to_k", "to_v") if self is not TrainingMode.CROSS_ATTENTION else ("to_q", "to_k", "to_v", "to_out.0")


class Schedule(str, Enum):
    """How learning rates go on after the warm-up: constant, or down to 0 along a cosine or a line."""

    CONSTANT = "constant"
    COSINE = "cosine"
    LINEAR = "linear"


class OptimizerKind(str, Enum):
    """AdamW, or bitsandbytes' AdamW with 8-bit state (a quarter of the optimiser's memory)."""

    ADAMW = "adamw"
    ADAMW_8BIT = "adamw_8bit"


class Precision(str, Enum):
    """What the frozen network computes in; trained tensors are float32 always. ``auto`` is the host's choice."""

    AUTO = "auto"
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


_RANGES: dict[str, tuple[float, float, str]] = {
    "steps": (1, 100_000, ""),
    "batch_size": (1, 64, ""),
    "learning_rate": (0.0, 1.0, _USUAL_RATES),
    "context_learning_rate": (0.0, 1.0, _USUAL_RATES),
    "token_learning_rate": (0.0, 1.0, " None uses learning_rate."),
    "warmup_steps": (0, 100_000, " 0 is none."),
    "accumulation_steps": (1, 256, " 1 is none."),
    "max_gradient_norm": (0.0, 1e6, " 0 never clips, 1 is usual."),
    "min_snr_gamma": (0.0, 100.0, " 0 weighs all timesteps alike, 5 is usual."),
    "noise_offset": (0.0, 1.0, " 0 is none, 0.05 is usual."),
    "ema_decay": (0.0, 0.99999, " 0 is none, 0.99 is usual for short runs."),
    "prior_loss_weight": (0.0, 100.0, " 1 weighs class images as references."),
    "rank": (0, 1024, " 0 trains whole weights, 8 to 32 is usual."),
    "evaluate_every": (0, 100_000, " 0 never evaluates."),
    "stop_after": (0, 1000, " 0 never stops early."),
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a concept is trained. Everything here shapes the result and is part of the run's key.

    The defaults are those of the preset ``with_dci`` for SD1.x, the authors' numbers; ``training_presets`` derives other models' rates.

    Args:
        scheme: M, L and S; only S matters in modes without learned contexts.
        steps: optimiser steps, 1 … 100 000.
        batch_size: reference images per step, 1 … 64; with regularisation as many class images are added.
        learning_rate: final rate of K and V; nothing multiplies it.
        context_learning_rate: final rate of [I].
        flip: mirror each image with probability ½; whoever makes the ``ImageSet`` adds the mirrored latents.
        seed: of everything random.
        token_learning_rate: final rate of [T]; None is ``learning_rate``.
        mode: what is trained, on which prompts.
        rank: of the change of each weight; 0 trains whole weights.
        optimizer: AdamW in 32 or 8 bits.
        schedule: of all learning rates after the warm-up.
        warmup_steps: over which the rates rise linearly; 0 is none.
        accumulation_steps: batches whose gradients are averaged for one step; 1 is none.
        max_gradient_norm: gradients are scaled down to this norm over all trained tensors; 0 never clips.
        min_snr_gamma: γ of min-SNR weighting (arXiv 2303.09556); 0 weighs all timesteps alike.
        noise_offset: share of noise that is one number per image and channel; 0 is none.
        ema_decay: of the moving average that becomes the concept; 0 is none, the concept is the last step's.
        prior_loss_weight: of class images, references having 1.
        precision: of the frozen network's computation.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about half as fast again.
        evaluate_every: steps between evaluations on fixed noise; 0 never evaluates.
        stop_after: evaluations without improvement after which the run ends; 0 never ends it early.

    Raises:
        UserInputError: a value is outside its range, or two do not go together.
    """

    scheme: ICOScheme = field(default_factory=ICOScheme)
    steps: int = _USUAL.steps
    batch_size: int = _USUAL.batch_size
    learning_rate: float = _USUAL.learning_rate
    context_learning_rate: float = _USUAL.context_learning_rate
    flip: bool = True
    seed: int = 0
    token_learning_rate: float | None = None
    mode: TrainingMode = TrainingMode.ICO
    rank: int = 0
    optimizer: OptimizerKind = OptimizerKind.ADAMW
    schedule: Schedule = Schedule.CONSTANT
    warmup_steps: int = 0
    accumulation_steps: int = 1
    max_gradient_norm: float = 0.0
    min_snr_gamma: float = 0.0
    noise_offset: float = 0.0
    ema_decay: float = 0.0
    prior_loss_weight: float = 1.0
    precision: Precision = Precision.AUTO
    gradient_checkpointing: bool = False
    evaluate_every: int = 0
    stop_after: int = 0

    def __post_init__(self) -> None:
        for name, (least, most, hint) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and least <= value <= most):
                raise UserInputError(f"{name} must be between {least:g} and {most:g}, but got {value}.{hint}")
        for name, kind in (
            ("mode", TrainingMode),
            ("optimizer", OptimizerKind),
            ("schedule", Schedule),
            ("precision", Precision),
        ):
            self._make_member(name, kind)
        if self.warmup_steps >= self.steps > 1:
            raise UserInputError(
                f"warmup_steps must be less than steps ({self.steps}), but got {self.warmup_steps}. A tenth is usual."
            )
        if self.stop_after and not self.evaluate_every:
            raise UserInputError(
                f"stop_after is {self.stop_after}, but evaluate_every is 0, so nothing would ever stop. "
                "Set evaluate_every to 25 or 50, or stop_after to 0."
            )

    @property
    def prompt_scheme(self) -> ICOScheme:
        """The scheme of training prompts: with the template's three words as fixed contexts where none are learned."""
        return (
            self.scheme if self.mode.learns_contexts else ICOScheme(len(TEMPLATE_WORDS), 0, self.scheme.concept_vectors)
        )

    def _make_member(self, name: str, kind: type[Enum]) -> None:
        try:
            object.__setattr__(self, name, kind(getattr(self, name)))
        except ValueError:
            allowed = ", ".join(str(member.value) for member in kind)
            raise UserInputError(f"{name} must be one of {allowed}, but got {getattr(self, name)!r}.") from None
