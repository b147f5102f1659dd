"""Node inputs are what the fields of the settings say."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.dci_core.sampling.strength import StrengthSchedule
from comfyui_dci.dci_core.setting import Setting, settings_of
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.dci_core.training.settings import TrainingSettings
from comfyui_dci.nodes.apply_dci import ApplyDCI
from comfyui_dci.nodes.class_images import ClassImages
from comfyui_dci.nodes.host.training.class_images import ClassImagePlan
from comfyui_dci.nodes.host.training.inputs import TrainingInputs
from comfyui_dci.nodes.host.training.preview import PreviewPlan
from comfyui_dci.nodes.ico_trainer import ICOTrainer
from comfyui_dci.nodes.inputs import setting_input
from comfyui_dci.nodes.strength_schedule import StrengthSchedule as ScheduleNode

OFFERED: list[tuple[Any, Any]] = [
    (ApplyDCI, DCISettings),
    (ScheduleNode, StrengthSchedule),
    (ICOTrainer, TrainingSettings),
    (ICOTrainer, CheckpointPlan),
    (ICOTrainer, PreviewPlan),
    (ICOTrainer, TrainingInputs),
    (ClassImages, ClassImagePlan),
]
NOT_OFFERED = {"forced_auxiliary_weight", "scheme"}


def by_id(node: Any) -> dict[str, Any]:
    return {entry.id: entry for entry in node.define_schema().inputs}


def offered(node: Any, kind: Any) -> list[tuple[Any, Setting]]:
    """Return each input of a node that holds a field of the settings, with what is known of the field."""
    inputs = by_id(node)
    assert list(settings_of(kind)) == [field.name for field in fields(kind)], "each field says what it does"
    known = {name: entry for name, entry in settings_of(kind).items() if name not in NOT_OFFERED}
    return [(inputs[entry.name or name], entry) for name, entry in known.items()]


@pytest.mark.parametrize(("node", "kind"), OFFERED)
def test_every_setting_is_offered_with_its_help(node: Any, kind: Any) -> None:
    for entry, known in offered(node, kind):
        assert entry.tooltip.startswith(known.help), entry.id


@pytest.mark.parametrize(("node", "kind"), OFFERED)
def test_no_node_offers_more_than_is_allowed_but_for_the_presets_value(node: Any, kind: Any) -> None:
    for entry, known in offered(node, kind):
        ends = known.offered or known.allowed
        if ends is not None:
            assert entry.max == ends[1] and entry.min in (ends[0], -1), entry.id
            assert known.step is None or entry.step == known.step


@pytest.mark.parametrize(
    ("field_name", "kind", "facts"),
    [
        ("rank", "INT", {"default": 0, "min": 0, "max": 1024}),
        ("noise_offset", "FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01}),
        ("flip", "BOOLEAN", {"default": True}),
        ("precision", "COMBO", {"default": "auto", "options": ["auto", "bf16", "fp16", "fp32"]}),
    ],
)
def test_the_type_of_an_input_is_that_of_its_default(field_name: str, kind: str, facts: dict[str, Any]) -> None:
    entry = setting_input(TrainingSettings, field_name)
    assert (entry.id, entry.io_type) == (field_name, kind)
    assert {name: getattr(entry, name) for name in facts} == facts
    assert all(type(getattr(entry, name)) is type(value) for name, value in facts.items())
    assert entry.tooltip == settings_of(TrainingSettings)[field_name].text


def test_what_the_node_says_wins() -> None:
    entry = setting_input(CheckpointPlan, "every", "-1 is mine.", default=-1, min=-1, optional=True)
    assert (entry.id, entry.default, entry.min, entry.max, entry.optional) == (
        "checkpoint_every",
        -1,
        -1,
        100_000,
        True,
    )
    assert entry.tooltip == f"{settings_of(CheckpointPlan)['every'].help} -1 is mine."
    text = setting_input(PreviewPlan, "prompt", default="grey", advanced=True)
    assert (text.id, text.io_type, text.default, text.advanced) == ("preview_prompt", "STRING", "grey", True)
