"""Settings of one training run, checked once where they enter."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ..concept.low_rank import MOST_RANK
from ..concept.scheme import ICOScheme
from ..errors import UserInputError
from ..seeds import LARGEST_SEED
from ..setting import check_settings, setting
from .ico import TEMPLATE_WORDS
from .presets import SD1_SCALE, PresetName, run_values

_USUAL = run_values(PresetName.WITH_DCI, SD1_SCALE)
_USUAL_RATES = (
    f"{_USUAL.learning_rate:g} (context {_USUAL.context_learning_rate:g}) suits SD1.x; -1 on the node is the preset's."
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
    """AdamW, or bitsandbytes' AdamW with 8-bit state."""

    ADAMW = "adamw"
    ADAMW_8BIT = "adamw_8bit"


class Precision(str, Enum):
    """What the frozen network computes in; trained tensors are float32 always. ``auto`` is the host's choice."""

    AUTO = "auto"
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


@dataclass(frozen=True)
class TrainingSettings:
    """How a concept is trained. Everything here shapes the result and is part of the run's key.

    What each field does is told in its metadata. The defaults are those of the preset ``with_dci`` for SD1.x, the authors'
    numbers; ``presets`` derives other models' rates. For ``flip``, whoever makes the ``ImageSet`` adds the mirrored
    latents. ``min_snr_gamma`` is γ of arXiv 2303.09556.

    Raises:
        UserInputError: a value is outside its range, or two do not go together.
    """

    scheme: ICOScheme = field(
        default_factory=ICOScheme, metadata=setting("M, L and S; only S matters in modes without learned contexts.")
    )
    steps: int = field(
        default=_USUAL.steps,
        metadata=setting(
            "Optimizer steps. More raise likeness and cost obedience: with DCI, which gives it back, take the "
            "end of the run; without, an early checkpoint.",
            allowed=(1, 100_000),
        ),
    )
    batch_size: int = field(
        default=_USUAL.batch_size,
        metadata=setting(
            "Reference images per step; as many regularization images are added where given.", allowed=(1, 64)
        ),
    )
    learning_rate: float = field(
        default=_USUAL.learning_rate,
        metadata=setting("Final rate of K, V and V*; nothing multiplies it.", _USUAL_RATES, allowed=(0, 1), step=1e-6),
    )
    context_learning_rate: float = field(
        default=_USUAL.context_learning_rate,
        metadata=setting("Final rate of the image-specific vectors.", _USUAL_RATES, allowed=(0, 1), step=1e-6),
    )
    flip: bool = field(
        default=True, metadata=setting("Mirror images at random. Off for subjects with writing or a fixed side.")
    )
    seed: int = field(default=0, metadata=setting("Same seed, same concept.", offered=(0, LARGEST_SEED)))
    token_learning_rate: float | None = field(
        default=None, metadata=setting("Final rate of V* alone.", "None uses learning_rate.", allowed=(0, 1), step=1e-6)
    )
    mode: TrainingMode = field(
        default=TrainingMode.ICO,
        metadata=setting(
            'ico: the paper\'s training. custom_diffusion: K, V and V* on "photo of a V* noun". '
            "textual_inversion: V* alone. key_value: K and V alone. cross_attention: as ico, with Q and output "
            "weights too."
        ),
    )
    rank: int = field(
        default=0,
        metadata=setting(
            "Rank of the changes, for SDXL on small cards; low-rank ones want a learning rate about ten times as high.",
            "0 trains whole weights, 8 to 32 is usual.",
            allowed=(0, MOST_RANK),
        ),
    )
    optimizer: OptimizerKind = field(
        default=OptimizerKind.ADAMW,
        metadata=setting("adamw_8bit needs bitsandbytes and takes a quarter of the optimizer's memory."),
    )
    schedule: Schedule = field(
        default=Schedule.CONSTANT,
        metadata=setting("How the learning rates go on after the warm-up: constant, or down to 0."),
    )
    warmup_steps: int = field(
        default=0,
        metadata=setting("Steps over which the learning rates rise from 0.", "0 is none.", allowed=(0, 100_000)),
    )
    accumulation_steps: int = field(
        default=1,
        metadata=setting(
            "Batches whose gradients are averaged for one step: a larger batch in the same memory.",
            "1 is none.",
            allowed=(1, 256),
        ),
    )
    max_gradient_norm: float = field(
        default=0.0,
        metadata=setting(
            "Gradients are scaled down to this norm over all trained tensors. Calms a run that jumps.",
            "0 never clips, 1 is usual.",
            allowed=(0, 1e6),
            step=0.1,
        ),
    )
    min_snr_gamma: float = field(
        default=0.0,
        metadata=setting(
            "Weighs low noise less (γ of min-SNR).",
            "0 weighs all timesteps alike, 5 is usual.",
            allowed=(0, 100),
            step=0.5,
        ),
    )
    noise_offset: float = field(
        default=0.0,
        metadata=setting(
            "Share of noise that is one number per image and channel: teaches very dark and very bright images.",
            "0 is none, 0.05 is usual.",
            allowed=(0, 1),
            step=0.01,
        ),
    )
    ema_decay: float = field(
        default=0.0,
        metadata=setting(
            "The concept becomes a moving average of the steps.",
            "0 is none, 0.99 is usual for short runs.",
            allowed=(0, 0.99999),
            step=0.001,
        ),
    )
    prior_loss_weight: float = field(
        default=1.0,
        metadata=setting(
            "Weight of regularization images.", "1 weighs them as reference images.", allowed=(0, 100), step=0.1
        ),
    )
    precision: Precision = field(
        default=Precision.AUTO,
        metadata=setting(
            "Of the frozen network; what is trained is float32 always. auto: bf16 where the device is good at "
            "it, else fp32."
        ),
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata=setting(
            "Much less memory for steps about 1.4 times as long; the result is the same, and an interrupted "
            "run goes on with it."
        ),
    )
    evaluate_every: int = field(
        default=0,
        metadata=setting(
            "Steps between evaluations of the loss on fixed noise, the number that tells when to stop; the best step "
            "is marked in the concept.",
            "0 never evaluates.",
            allowed=(0, 100_000),
        ),
    )
    stop_after: int = field(
        default=0,
        metadata=setting(
            "Stop after this many evaluations without improvement.", "0 never stops early.", allowed=(0, 1000)
        ),
    )

    def __post_init__(self) -> None:
        check_settings(self)
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
    def goes_on(self) -> bool:
        """Whether a run with more steps begins with the very steps of this one: falling rates depend on the number of steps."""
        return self.schedule is Schedule.CONSTANT

    def is_evaluated(self, step: int) -> bool:
        """Whether the loss on fixed noise is measured after a step, counted from 1: every so often, and after the last."""
        return bool(self.evaluate_every) and (step % self.evaluate_every == 0 or step == self.steps)

    @property
    def prompt_scheme(self) -> ICOScheme:
        """The scheme of training prompts: with the template's three words as fixed contexts where none are learned."""
        return (
            self.scheme if self.mode.learns_contexts else ICOScheme(len(TEMPLATE_WORDS), 0, self.scheme.concept_vectors)
        )
