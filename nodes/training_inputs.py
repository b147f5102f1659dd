"""The trainer's less-used inputs. Their ids are fields of ``TrainingSettings`` or of ``CheckpointPlan``'s text form.

All are optional, so that graphs made before they existed keep working and mean what they meant.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from comfy_api.latest import io

from ..dci_core.errors import UserInputError
from ..dci_core.training.presets import AS_PRESET, PRESET_INPUTS, PRESETS, PresetName, RunValues
from ..dci_core.training.run import CheckpointPlan
from ..dci_core.training.settings import (
    OptimizerKind,
    Precision,
    Schedule,
    TrainingMode,
    TrainingSettings,
)

_NEUTRAL = TrainingSettings()


def setting_inputs() -> list[io.Input]:
    """Return the inputs that shape the result; their ids are fields of ``TrainingSettings``."""
    return [
        _choice(
            "mode",
            TrainingMode,
            'ico: the paper\'s training. custom_diffusion: K, V and V* on "photo of a V* noun". '
            "textual_inversion: V* alone. key_value: K and V alone. cross_attention: as ico, with Q and output weights too.",
        ),
        _number(
            "rank",
            1024,
            "0 trains whole K and V weights. 8 to 32: low-rank changes, for SDXL on small cards; "
            "they want a learning rate about ten times as high.",
        ),
        io.Float.Input(
            "token_learning_rate",
            default=float(AS_PRESET),
            min=float(AS_PRESET),
            max=1.0,
            step=1e-6,
            round=False,
            optional=True,
            advanced=True,
            tooltip="Final rate of V* alone; -1 goes with learning_rate: the same as yours, "
            "or what the preset derives from the word embeddings.",
        ),
        _choice(
            "optimizer", OptimizerKind, "adamw_8bit needs bitsandbytes and takes a quarter of the optimizer's memory."
        ),
        _choice("schedule", Schedule, "How the learning rates go on after the warm-up: constant, or down to 0."),
        _number("warmup_steps", 100000, "Steps over which the learning rates rise from 0; 0 is none."),
        _number(
            "accumulation_steps",
            256,
            "Batches whose gradients are averaged for one step: a larger batch in the same memory; 1 is none.",
            least=1,
        ),
        _share(
            "max_gradient_norm",
            1e6,
            0.1,
            "Gradients are scaled down to this norm; 0 never, 1 is usual. Calms a run that jumps.",
        ),
        _share("min_snr_gamma", 100.0, 0.5, "Weighs low noise less (min-SNR); 0 is off, 5 is usual."),
        _share("noise_offset", 1.0, 0.01, "Teaches very dark and very bright images; 0 is off, 0.05 is usual."),
        _share(
            "ema_decay", 0.99999, 0.001, "The concept becomes a moving average of the steps; 0 is off, 0.99 is usual."
        ),
        _share("prior_loss_weight", 100.0, 0.1, "Weight of regularization images; 1 weighs them as reference images."),
        _choice(
            "precision",
            Precision,
            "Of the frozen network; what is trained is float32 always. auto: bf16 where the device "
            "is good at it, else fp32.",
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=_NEUTRAL.gradient_checkpointing,
            optional=True,
            advanced=True,
            tooltip="Much less memory for steps about 1.4 times as long; the result is the same, and an interrupted run "
            "goes on with it.",
        ),
        _number(
            "evaluate_every",
            100000,
            "Steps between measurements of the loss on fixed noise, the number that tells when "
            "to stop; the best step is marked in the concept. 0 never.",
            default=100,
        ),
        _number("stop_after", 1000, "Stop after this many measurements without improvement; 0 never stops early."),
    ]


def storage_inputs() -> list[io.Input]:
    """Return the inputs about what is kept on disk; they change nothing that is learned."""
    return [
        _number(
            "checkpoint_every",
            100000,
            "Steps between checkpoints in models/dci_concepts/training. Each is a concept, and "
            "an interrupted run goes on from the newest. Early ones obey prompts (for use without DCI), late ones are faithful (for DCI). "
            f"0: only when the run is cancelled. {of_presets('checkpoint_every')}",
            least=AS_PRESET,
            default=AS_PRESET,
        ),
        _number(
            "checkpoints_kept",
            1000,
            f"How many of the newest checkpoints are kept. {of_presets('checkpoints_kept')}",
            least=AS_PRESET,
            default=AS_PRESET,
        ),
        io.String.Input(
            "checkpoint_steps",
            default="",
            optional=True,
            advanced=True,
            tooltip='Further steps whose concept is always kept, such as "50, 200, 350".',
        ),
        io.Boolean.Input(
            "reuse",
            default=True,
            optional=True,
            advanced=True,
            tooltip="On: the same inputs go on where they were interrupted, or return the finished concept at once. "
            "Off: what they left is deleted and training starts anew.",
        ),
    ]


def preset_input() -> io.Input:
    """Return the choice of a preset; it stands last, so that the widgets of older graphs stay where they were."""
    lines = [f"{name.value}: {preset.purpose}" for name, preset in PRESETS.items()]
    return io.Combo.Input(
        "preset",
        options=[name.value for name in PresetName],
        default=PresetName.WITH_DCI.value,
        optional=True,
        tooltip="What every input that is -1 is set to.\n"
        + "\n".join(lines)
        + "\nRates follow the model's own scale; values that you "
        "set win.",
    )


def of_presets(name: str) -> str:
    """Return what an input is in each preset, for its tooltip."""
    values = ", ".join(f"{preset.value} {getattr(PRESETS[preset], name)}" for preset in PresetName)
    return f"-1 is the preset's ({values})."


def preview_inputs() -> list[io.Input]:
    """Return the inputs about preview pictures; they change nothing that is learned."""
    return [
        _number(
            "preview_every",
            100000,
            "Steps between pictures of V* on the node, drawn by the model in training; each costs "
            "about as much as ten steps. 0 draws none.",
            default=0,
        ),
        io.String.Input(
            "preview_prompt",
            default="",
            optional=True,
            advanced=True,
            tooltip='What is drawn, with V* in it; empty: "photo of a V* <class noun>".',
        ),
    ]


def preset_values(value: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs that a preset fills where they are -1, as they were given."""
    return {name: value[name] for name in (*PRESET_INPUTS, "token_learning_rate") if name in value}


def given_settings(value: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``TrainingSettings`` among the values of ``setting_inputs``, but for those that presets fill."""
    names = [entry.id for entry in setting_inputs()]
    return {name: value[name] for name in names if name in value and name not in RunValues.__dataclass_fields__}


def checkpoint_plan(value: dict[str, Any], chosen: RunValues) -> CheckpointPlan:
    """Return the plan of the chosen values and ``checkpoint_steps``.

    Raises:
        UserInputError: ``checkpoint_steps`` is no list of numbers, or the plan is outside its range.
    """
    given = value.get("checkpoint_steps", "")
    text = given.replace(",", " ").split()
    if not all(part.isdecimal() for part in text):
        raise UserInputError(
            f'checkpoint_steps must be numbers with commas between, such as "50, 200", but got {given!r}.'
        )
    return CheckpointPlan(chosen.checkpoint_every, chosen.checkpoints_kept, tuple(int(part) for part in text))


def _choice(name: str, kind: type[Enum], tooltip: str) -> io.Input:
    default = getattr(_NEUTRAL, name).value
    return io.Combo.Input(
        name, options=[m.value for m in kind], default=default, tooltip=tooltip, optional=True, advanced=True
    )


def _number(name: str, most: int, tooltip: str, least: int = 0, default: int | None = None) -> io.Input:
    default = getattr(_NEUTRAL, name) if default is None else default
    return io.Int.Input(name, default=default, min=least, max=most, tooltip=tooltip, optional=True, advanced=True)


def _share(name: str, most: float, step: float, tooltip: str) -> io.Input:
    default = getattr(_NEUTRAL, name)
    return io.Float.Input(
        name, default=default, min=0.0, max=most, step=step, round=False, tooltip=tooltip, optional=True, advanced=True
    )
