"""The trainer's inputs that are settings, by what they are about.

What most people never turn stands on nodes of its own. The trainer has it too, unseen: graphs made before these nodes existed
keep their values in the order of the trainer's widgets, and mean what they meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from comfy_api.latest import io

from ..dci_core.concept.scheme import ICOScheme
from ..dci_core.errors import UserInputError
from ..dci_core.setting import settings_of
from ..dci_core.training.presets import AS_PRESET, PRESET_INPUTS, PRESETS, SD1_SCALE, PresetName, RunValues, run_values
from ..dci_core.training.run import CheckpointPlan, KeepState
from ..dci_core.training.settings import TrainingSettings
from .host.training.inputs import TrainingInputs
from .host.training.preview import PreviewPlan
from .inputs import setting_input

_RARE: dict[str, Any] = {"optional": True}
_WATCHING = ("evaluate_every", "stop_after")  # settings of a training that tell how it goes
_WHOLE: dict[str, Any] = {"round": False}


def scheme_inputs() -> list[io.Input]:
    """Return the inputs for M, L and S."""
    shown = (
        ("prefix", "contexts_before", "contexts_before M"),
        ("suffix", "contexts_after", "contexts_after L"),
        ("concept_vectors", "concept_vectors", "concept_vectors S"),
    )
    return [
        _of_preset(ICOScheme, field_name, of_presets(name), id=name, display_name=label)
        for field_name, name, label in shown
    ]


def length_and_rate_inputs() -> list[io.Input]:
    """Return the inputs for how long and how fast is trained."""
    usual = run_values(PresetName.WITH_DCI, SD1_SCALE)
    derived = "-1 is derived from the model: {:g} for SD1.x."
    return [
        _of_preset(TrainingSettings, "steps", of_presets("steps")),
        _of_preset(TrainingSettings, "batch_size", of_presets("batch_size")),
        _rate("learning_rate", derived.format(usual.learning_rate)),
        _rate("context_learning_rate", derived.format(usual.context_learning_rate)),
    ]


def setting_inputs() -> list[io.Input]:
    """Return the less-used inputs that shape the result; their ids are fields of ``TrainingSettings``."""
    return [
        *_rare("mode", "rank"),
        _rate(
            "token_learning_rate",
            "-1 goes with learning_rate: the same as yours, or what the preset derives from the word embeddings.",
            **_RARE,
        ),
        *_rare("optimizer", "schedule", "warmup_steps", "accumulation_steps"),
        *_rare("max_gradient_norm", "min_snr_gamma", "noise_offset", "ema_decay", "prior_loss_weight", **_WHOLE),
        *_rare("precision", "gradient_checkpointing"),
        *_rare("evaluate_every", default=100),
        *_rare("stop_after"),
    ]


def keep_contexts_input() -> io.Input:
    """Return whether the image-specific vectors are kept."""
    return setting_input(TrainingInputs, "keep_contexts", optional=True)


def storage_inputs() -> list[io.Input]:
    """Return the inputs about what is kept on disk; they change nothing that is learned."""
    when_cancelled = settings_of(CheckpointPlan)["every"].neutral
    return [
        _of_preset(CheckpointPlan, "every", f"{when_cancelled} {of_presets('checkpoint_every')}", **_RARE),
        _of_preset(CheckpointPlan, "keep", of_presets("checkpoints_kept"), **_RARE),
        setting_input(CheckpointPlan, "steps", default="", **_RARE),
        io.Boolean.Input(
            "reuse",
            default=True,
            tooltip="On: the same inputs go on where they were interrupted, or return the finished concept at once; with more steps "
            "they go on from it (see keep_state). Off: what they left is deleted and training starts anew.",
            **_RARE,
        ),
    ]


def keep_state_input() -> io.Input:
    """Return whether a finished run keeps its state; it stands last, so that the widgets of older graphs stay where they were."""
    return setting_input(CheckpointPlan, "keep_state", **_RARE)


def preset_input() -> io.Input:
    """Return the choice of a preset; it stands behind all that came before it, so that the widgets of older graphs stay."""
    lines = [f"{name.value}: {preset.purpose}" for name, preset in PRESETS.items()]
    return io.Combo.Input(
        "preset",
        options=[name.value for name in PresetName],
        default=PresetName.WITH_DCI.value,
        optional=True,
        tooltip="What every input that is -1 is set to.\n"
        + "\n".join(lines)
        + "\nRates follow the model's own scale; values that you set win.",
    )


def of_presets(name: str) -> str:
    """Return what an input is in each preset, for its tooltip."""
    values = ", ".join(f"{preset.value} {PRESETS[preset].inputs[name]}" for preset in PresetName)
    return f"-1 is the preset's ({values})."


def preview_inputs() -> list[io.Input]:
    """Return the inputs about preview pictures; they change nothing that is learned."""
    return [setting_input(PreviewPlan, name, **_RARE) for name in ("every", "prompt")]


def detail_inputs() -> list[io.Input]:
    """Return the inputs of DCI Training Settings: all that shapes what is learned and that few people turn."""
    rates = [entry for entry in length_and_rate_inputs() if entry.id == "context_learning_rate"]
    settings = [entry for entry in setting_inputs() if entry.id not in _WATCHING]
    return _optional([*scheme_inputs(), *rates, *settings, keep_contexts_input()])


def watching_inputs() -> list[io.Input]:
    """Return the inputs of DCI Checkpoints."""
    settings = [entry for entry in setting_inputs() if entry.id in _WATCHING]
    return _optional([*settings, *storage_inputs(), keep_state_input(), *preview_inputs()])


def unseen(inputs: Iterable[io.Input]) -> list[io.Input]:
    """Return inputs of the trainer, those that stand on nodes of their own as widgets that are kept but not shown.

    The host's frontend takes the word for it from the schema, in both of its canvases; ``web/unseen.js`` shows what an older
    graph has set.
    """
    elsewhere = {entry.id for entry in (*detail_inputs(), *watching_inputs())}
    found = list(inputs)
    for entry in found:
        if entry.id in elsewhere:
            entry.extra_dict = {**entry.extra_dict, "hidden": True}
    return found


def from_nodes(own: Mapping[str, Any], given: Sequence[Mapping[str, Any]], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer's values, with what connected nodes have turned.

    Args:
        own: the trainer's values, by the ids of its inputs.
        given: what connected nodes say, by the same ids.
        fresh: the values that nobody has turned.

    Raises:
        UserInputError: both have turned one, differently.
    """
    turned = {name: value for node in given for name, value in node.items() if value != fresh[name]}
    against = [name for name, value in turned.items() if own.get(name, fresh[name]) not in (fresh[name], value)]
    if against:
        both = "; ".join(f"{name} is {turned[name]!r} there and {own[name]!r} on ICO Trainer" for name in against)
        raise UserInputError(
            f"A connected node says of the training what ICO Trainer says otherwise: {both}. Set it on one of them, and put "
            f"the other back ({', '.join(f'{name} {fresh[name]!r}' for name in against)}), or disconnect the node."
        )
    return {**own, **turned}


def preset_values(value: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs that a preset fills where they are -1, as they were given."""
    return {name: value[name] for name in (*PRESET_INPUTS, "token_learning_rate") if name in value}


def given_settings(value: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``TrainingSettings`` among the values of ``setting_inputs``, but for those that presets fill."""
    names = [entry.id for entry in setting_inputs()]
    return {name: value[name] for name in names if name in value and name not in RunValues.__dataclass_fields__}


def checkpoint_plan(value: dict[str, Any], chosen: RunValues) -> CheckpointPlan:
    """Return the plan of the chosen values, ``checkpoint_steps`` and ``keep_state``.

    Raises:
        UserInputError: ``checkpoint_steps`` is no list of numbers, or the plan is outside its range.
    """
    given = value.get("checkpoint_steps", "")
    text = given.replace(",", " ").split()
    if not all(part.isdecimal() for part in text):
        raise UserInputError(
            f'checkpoint_steps must be numbers with commas between, such as "50, 200", but got {given!r}.'
        )
    steps, keep_state = tuple(int(part) for part in text), KeepState(value.get("keep_state", KeepState.UP_TO_1_GB))
    return CheckpointPlan(chosen.checkpoint_every, chosen.checkpoints_kept, steps, keep_state)


def _optional(inputs: list[io.Input]) -> list[io.Input]:
    """Return inputs as a node has them that changes only what is turned: a graph may leave any of them out."""
    for entry in inputs:
        entry.optional = True
    return inputs


def _rare(*names: str, **shown: Any) -> list[io.Input]:
    return [setting_input(TrainingSettings, name, **_RARE, **shown) for name in names]


def _of_preset(kind: type, field_name: str, as_preset: str, **shown: Any) -> io.Input:
    """Return an input that is -1 at first: as the preset says."""
    return setting_input(kind, field_name, as_preset, **{"default": AS_PRESET, "min": AS_PRESET} | shown)


def _rate(name: str, as_preset: str, **shown: Any) -> io.Input:
    least = float(AS_PRESET)
    return _of_preset(TrainingSettings, name, as_preset, default=least, min=least, **_WHOLE, **shown)
