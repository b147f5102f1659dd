"""What a run is trained with unless the user says otherwise: numbers per purpose, rates derived from the model's own scale.

K and V: Adam moves every entry by about the rate in each step, whatever the gradient, and the root mean square of K and V weights goes
with 1/√n, n being their fan-in, the width of the text conditioning (measured: 1.40/√(3n) on the first demo model with n = 128, 1.56/√(3n)
on the present one with n = 256). So a rate that goes with 1/√n keeps their *relative* change per step.

[T] and [I]: vectors among the word embeddings, so their rates are multiples of the standard deviation of the embedding table. How
far a vector gets beside the words does not depend on K and V (METHOD section 7, "Who takes the subject in").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..concept.scheme import ICOScheme
from ..errors import UserInputError

AS_PRESET = -1
"""The value of an input that means: as the preset says."""

# The authors' rates on SD1.x (METHOD section 2): 1e-5 × 3 GPUs × 2 rows for K, V and [T], ten times that for [I].
AUTHORS_RATE = 6e-5
AUTHORS_CONTEXT_RATE = 6e-4
SD1_TEXT_WIDTH = 768
SD1_EMBEDDING_STD = 0.014
"""Standard deviation of CLIP-L's table of word embeddings, about (METHOD section 7)."""
QUICK_FACTOR = 2.0
LEARNED = ("K and V", "V*", "contexts")


@dataclass(frozen=True)
class ModelScale:
    """What rates depend on.

    Args:
        text_width: fan-in of to_k and to_v (SD1 768, SD2 1024, SDXL 2048), 1 or more.
        embedding_std: standard deviation of the text encoder's table of word embeddings; of several encoders the smallest,
            because one rate serves all of them and no vector should outrun the words of its encoder.
    """

    text_width: int
    embedding_std: float


SD1_SCALE = ModelScale(SD1_TEXT_WIDTH, SD1_EMBEDDING_STD)


class PresetName(str, Enum):
    """What a training is for."""

    WITH_DCI = "with_dci"
    ALONE = "alone"
    QUICK_LOOK = "quick_look"


@dataclass(frozen=True)
class TrainingPreset:
    """Numbers that go together.

    Args:
        scheme, steps, batch_size: fields of ``TrainingSettings``.
        key_value_rate: of K and V where the text is 768 wide; elsewhere times √(768 / width).
        token_rate: of [T], in standard deviations of the word embeddings.
        context_rate: of [I], likewise.
        checkpoint_every, checkpoints_kept: fields of ``CheckpointPlan``.
        purpose: what it is for, one line.
    """

    scheme: ICOScheme
    steps: int
    batch_size: int
    key_value_rate: float
    token_rate: float
    context_rate: float
    checkpoint_every: int
    checkpoints_kept: int
    purpose: str

    @property
    def inputs(self) -> dict[str, int]:
        """Its numbers that depend on no model, by the ids of the node's inputs."""
        return {
            "contexts_before": self.scheme.prefix,
            "contexts_after": self.scheme.suffix,
            "concept_vectors": self.scheme.concept_vectors,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "checkpoint_every": self.checkpoint_every,
            "checkpoints_kept": self.checkpoints_kept,
        }


_AUTHORS_RATES = {
    "key_value_rate": AUTHORS_RATE,
    "token_rate": AUTHORS_RATE / SD1_EMBEDDING_STD,
    "context_rate": AUTHORS_CONTEXT_RATE / SD1_EMBEDDING_STD,
}
PRESETS: Mapping[PresetName, TrainingPreset] = {
    PresetName.WITH_DCI: TrainingPreset(
        ICOScheme(1, 1, 3),
        steps=900,
        batch_size=2,
        **_AUTHORS_RATES,
        checkpoint_every=150,
        checkpoints_kept=6,
        purpose="for pictures made with DCI: likeness first, trained long; DCI gives obedience back.",
    ),
    PresetName.ALONE: TrainingPreset(
        ICOScheme(4, 2, 2),
        steps=450,
        batch_size=2,
        **_AUTHORS_RATES,
        checkpoint_every=75,
        checkpoints_kept=6,
        purpose="for pictures made without DCI: stopped earlier, while prompts are still obeyed.",
    ),
    PresetName.QUICK_LOOK: TrainingPreset(
        ICOScheme(1, 1, 3),
        steps=150,
        batch_size=1,
        checkpoint_every=50,
        checkpoints_kept=3,
        **{name: QUICK_FACTOR * rate for name, rate in _AUTHORS_RATES.items()},
        purpose="to see soon whether your photographs and class noun work at all; a sixth of the steps at twice the rates.",
    ),
}


@dataclass(frozen=True)
class RunValues:
    """What a run is trained with, the preset's values or the user's own.

    Args:
        scheme, steps, batch_size, learning_rate, token_learning_rate, context_learning_rate: fields of ``TrainingSettings``.
        checkpoint_every, checkpoints_kept: of ``CheckpointPlan``.
        own: names of the inputs that the user has set.
    """

    scheme: ICOScheme
    steps: int
    batch_size: int
    learning_rate: float
    token_learning_rate: float | None
    context_learning_rate: float
    checkpoint_every: int
    checkpoints_kept: int
    own: tuple[str, ...] = field(default=(), compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of ``TrainingSettings`` among them."""
        names = (
            "scheme",
            "steps",
            "batch_size",
            "learning_rate",
            "token_learning_rate",
            "context_learning_rate",
        )
        return {name: getattr(self, name) for name in names}

    def text(self, preset: PresetName, class_images: bool, learned: Sequence[str] = LEARNED) -> str:
        """Return the values in one line, saying which of them are the user's own.

        Args:
            preset: what they were completed from.
            class_images: whether there are any.
            learned: what of ``LEARNED`` the run's mode trains; the rest is not spoken of.
        """
        pictures = f"{self.batch_size} + {self.batch_size}" if class_images else f"{self.batch_size}"
        token_rate = self.learning_rate if self.token_learning_rate is None else self.token_learning_rate
        by_name = dict(zip(LEARNED, (self.learning_rate, token_rate, self.context_learning_rate)))
        rates = " / ".join(_short(by_name[name]) for name in learned)
        scheme = self.scheme
        contexts = f"M {scheme.prefix}, L {scheme.suffix}, " if "contexts" in learned else ""
        return (
            f"{self._source(preset)}: {contexts}S {scheme.concept_vectors}, {self.steps} steps of "
            f"{pictures} picture{'s' * (pictures != '1')}, rate{'s' * (len(learned) > 1)} {rates} ({' / '.join(learned)}), "
            + (f"checkpoints every {self.checkpoint_every}" if self.checkpoint_every else "no checkpoints on the way")
        )

    def _source(self, preset: PresetName) -> str:
        if set(self.own) >= set(PRESET_INPUTS):
            return "values of your own"
        return f"preset {preset.value}" + (f" with {', '.join(self.own)} of your own" if self.own else "")


PRESET_INPUTS = (
    "contexts_before",
    "contexts_after",
    "concept_vectors",
    "steps",
    "batch_size",
    "learning_rate",
    "context_learning_rate",
    "checkpoint_every",
    "checkpoints_kept",
)
"""Ids of the node's inputs that a preset fills."""


def run_values(preset: PresetName, scale: ModelScale, given: Mapping[str, Any] | None = None) -> RunValues:
    """Return the values of a run: each input that is given, else the preset's.

    Args:
        preset: what the run is for.
        scale: of the model; what is given needs none of it.
        given: by the names in ``PRESET_INPUTS``, and "token_learning_rate"; -1 and missing are the preset's. A token rate that is
            not given goes with the learning rate: the same as a given one, else the preset's own.

    Raises:
        UserInputError: a rate of vectors is to be derived, but the word embeddings have no scale.
    """
    chosen = PRESETS[preset]
    own = {name: value for name, value in (given or {}).items() if value != AS_PRESET}

    def vector_rate(multiple: float) -> float:
        if not (math.isfinite(scale.embedding_std) and scale.embedding_std > 0):
            raise UserInputError(
                f"The text encoder's word embeddings have the standard deviation {scale.embedding_std}, so the preset cannot derive "
                "rates for V* and its contexts from them; it must be a number above 0. Load a complete checkpoint, or set "
                "learning_rate and context_learning_rate yourself (6e-5 and 6e-4 suit SD1.x)."
            )
        return _rounded(multiple * scale.embedding_std)

    token_rate = own.get("token_learning_rate")
    if token_rate is None and "learning_rate" not in own:
        token_rate = vector_rate(chosen.token_rate)
    counts = {name: own.get(name, value) for name, value in chosen.inputs.items()}
    return RunValues(
        scheme=ICOScheme(counts["contexts_before"], counts["contexts_after"], counts["concept_vectors"]),
        steps=counts["steps"],
        batch_size=counts["batch_size"],
        learning_rate=own["learning_rate"] if "learning_rate" in own else key_value_rate(chosen, scale.text_width),
        token_learning_rate=token_rate,
        context_learning_rate=(
            own["context_learning_rate"] if "context_learning_rate" in own else vector_rate(chosen.context_rate)
        ),
        checkpoint_every=counts["checkpoint_every"],
        checkpoints_kept=counts["checkpoints_kept"],
        own=tuple(name for name in (*PRESET_INPUTS, "token_learning_rate") if name in own),
    )


def key_value_rate(preset: TrainingPreset, text_width: int) -> float:
    """Return the rate of K and V for weights of a fan-in: the preset's · √(768 / width)."""
    return _rounded(preset.key_value_rate * math.sqrt(SD1_TEXT_WIDTH / text_width))


def _rounded(rate: float) -> float:
    """Return a rate of three digits: what is shown is what is used, and last bits of a sum make no other run of it."""
    return float(f"{rate:.2e}")


def _short(rate: float) -> str:
    """Return a rate as 6e-05."""
    digits, exponent = f"{rate:.2e}".split("e")
    return f"{float(digits):g}e{exponent}" if rate else "0"
