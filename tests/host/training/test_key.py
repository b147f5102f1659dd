"""The key of a run: it covers all that shapes the result, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.model_management
import pytest
import torch
from comfyui_dci.dci_core.training.settings import TrainingSettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training import description
from comfyui_dci.nodes.host.training.description import key_of
from comfyui_dci.nodes.host.training.inputs import Crop
from other_settings import OTHER_SETTINGS
from scenes import random_concept
from training_runs import inputs, pictures, settings

from workbench.tiny import Tiny, tiny


@pytest.fixture(scope="module")
def base() -> Tiny:
    return tiny("sd1")


def variants() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Changes to what a run is given, by what they change; each must change the key."""

    def picture(call: dict[str, Any]) -> None:
        changed = [image.clone() for image in pictures()]
        changed[1][5, 6, 0] += 1 / 255
        call["inputs"] = replace(inputs(), images=changed)

    def lora(call: dict[str, Any]) -> None:
        concept = random_concept(call["base"])
        with torch.inference_mode():
            model, _ = apply_concept(call["base"].model, call["base"].clip, concept, 0.5)
        call["base"] = Tiny(model, call["base"].clip, call["base"].vae)

    def lora_on_clip(call: dict[str, Any]) -> None:
        clip, name = call["base"].clip.clone(), "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
        assert clip.add_patches({name: ("diff", (torch.ones(128, 64),))}) == [name]
        call["base"] = Tiny(call["base"].model, clip, call["base"].vae)

    def clip_skip(call: dict[str, Any]) -> None:
        clip = call["base"].clip.clone()
        clip.clip_layer(-2)
        call["base"] = Tiny(call["base"].model, clip, call["base"].vae)

    return {
        "picture": picture,
        "order": lambda call: call.update(inputs=replace(inputs(), images=pictures()[::-1])),
        "noun": lambda call: call.update(inputs=inputs("dog")),
        "regularization": lambda call: call.update(inputs=inputs(regularized=True)),
        "caption": lambda call: call.update(
            inputs=replace(inputs(regularized=True), regularization_captions=["a", "b"])
        ),
        "image caption": lambda call: call.update(inputs=replace(inputs(), captions=["", "outdoors", ""])),
        "resolution": lambda call: call.update(inputs=replace(inputs(), resolution=128)),
        "seed": lambda call: call.update(settings=settings(seed=6)),
        "steps": lambda call: call.update(settings=settings(steps=4)),
        "mode": lambda call: call.update(settings=settings(mode="key_value")),
        "rate": lambda call: call.update(settings=settings(token_learning_rate=1e-4)),
        "placeholder": lambda call: call.update(inputs=replace(inputs(), placeholder="my-cat*")),
        "contexts": lambda call: call.update(inputs=replace(inputs(), keep_contexts=True)),
        "masks": lambda call: call.update(inputs=replace(inputs(), masks=[torch.ones(64, 72)] * 3)),
        "crop": lambda call: call.update(inputs=replace(inputs(), crop=Crop.BUCKETS)),
        "model": lambda call: call.update(base=Tiny(tiny("sd1", seed=1).model, call["base"].clip, call["base"].vae)),
        "clip": lambda call: call.update(base=Tiny(call["base"].model, tiny("sd1", seed=1).clip, call["base"].vae)),
        "vae": lambda call: call.update(base=Tiny(call["base"].model, call["base"].clip, tiny("sd1", seed=1).vae)),
        "prediction": lambda call: call.update(
            base=Tiny(tiny("sd1", v_prediction=True).model, call["base"].clip, call["base"].vae)
        ),
        "lora": lora,
        "lora on clip": lora_on_clip,
        "clip skip": clip_skip,
    }


def key(base: Tiny, change: Callable[[dict[str, Any]], Any] | None = None) -> str:
    call: dict[str, Any] = {"base": base, "inputs": inputs(), "settings": settings()}
    if change is not None:
        change(call)
    return key_of(HostModel(*call["base"]), call["inputs"], call["settings"])


@pytest.mark.parametrize("name", list(variants()))
def test_the_key_covers(base: Tiny, name: str) -> None:
    assert key(base, variants()[name]) != key(base)


def test_the_key_covers_every_setting(base: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(OTHER_SETTINGS) == set(TrainingSettings.__dataclass_fields__)
    monkeypatch.setattr(description, "model_facts", lambda *given: {})  # they do not change here, and take long
    usual = {"evaluate_every": 2}  # stop_after needs it
    keys = {key(base, lambda call: call.update(settings=settings(**usual)))}
    for name, value in OTHER_SETTINGS.items():
        keys.add(key(base, lambda call: call.update(settings=settings(**{**usual, name: value}))))  # noqa: B023 (called in this turn of the loop)
    assert len(keys) == 1 + len(OTHER_SETTINGS) - len(description.SHAPES_NOTHING)
    assert description.SHAPES_NOTHING == ("gradient_checkpointing",)  # test_modes.py: the same bits


def test_the_key_covers_the_code_and_nothing_that_does_not_matter(base: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(base)
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([base.model])
    assert key(tiny("sd1")) == key(base) == before
    assert key(base, lambda call: call.update(inputs=replace(inputs(), captions=["", "", ""]))) == before
    monkeypatch.setattr(description, "VERSION", "9.9.9")
    assert key(base) != before


def test_the_key_leaves_out_what_the_host_leaves_uninitialised(base: Tiny) -> None:
    """SD1 checkpoints have no text projection; its memory differs from process to process."""
    before, other = key(base), tiny("sd1")
    with torch.no_grad():
        other.clip.cond_stage_model.clip_l.transformer.text_projection.weight.fill_(float("nan"))
    assert key(other) == before
    xl = tiny("sdxl")
    whole = key(xl)
    with torch.no_grad():
        xl.clip.cond_stage_model.clip_g.transformer.text_projection.weight.add_(1.0)
    assert key(xl) != whole
