"""What a concept was trained on, beside what it is applied to: each difference is told by its name, on the node and in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.sd
import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.file import load_concept, save_concept
from comfyui_dci.nodes.concepts import ApplyConcept
from comfyui_dci.nodes.host.base_facts import base_facts
from comfyui_dci.nodes.host.concepts import applying
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from scenes import random_concept, scene
from training_runs import train

from workbench.tiny import Tiny, tiny, tiny_model

LAYER = "diffusion_model.middle_block.1.transformer_blocks.0.attn2"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"
READING = 'V* is read as "V* cat"'


@pytest.fixture(scope="module")
def base() -> Tiny:
    return tiny("sd1")


def with_lora(base: Tiny, strength: float = 1.0, clip_strength: float = 1.0, seed: int = 1) -> Tiny:
    """The base with a LoRA on two weights of the model and one of the text encoder, as LoraLoader puts it there."""
    generator = torch.Generator().manual_seed(seed)
    text = base.clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers[0].mlp.fc1.weight.shape
    shapes = {
        f"{LAYER}.{name}": base.model.model.get_submodule(f"{LAYER}.{name}").weight.shape for name in ("to_k", "to_q")
    }
    lora = {}
    for name, (height, width) in {**shapes, TEXT: text}.items():
        lora[f"{name}.lora_up.weight"] = torch.randn(height, 2, generator=generator)
        lora[f"{name}.lora_down.weight"] = torch.randn(2, width, generator=generator)
    with torch.inference_mode():
        model, clip = comfy.sd.load_lora_for_models(base.model, base.clip, lora, strength, clip_strength)
    return Tiny(model, clip, base.vae)


def at_layer(base: Tiny, layer: int) -> Tiny:
    clip = base.clip.clone()
    clip.clip_layer(layer)
    return Tiny(base.model, clip, base.vae)


def sampled_as(base: Tiny, kind: str) -> Tiny:
    (model,) = ModelSamplingDiscrete().patch(base.model, kind, False)
    return Tiny(model, base.clip, base.vae)


def on_another_checkpoint(base: Tiny) -> Tiny:
    return Tiny(tiny_model("sd1", seed=99), base.clip, base.vae)


def concept_of(base: Tiny) -> Concept:
    """A concept as a training on this base describes it."""
    concept = random_concept(base)
    facts = base_facts(base.model, base.clip)
    return replace(concept, info=replace(concept.info, **vars(facts)))


def warnings_on(base: Tiny, concept: Concept) -> list[str]:
    """What Apply Concept's node shows beside how V* is read."""
    texts: list[str] = []
    with torch.inference_mode():
        apply_concept(base.model, base.clip, concept, tell=texts.append)
    (text,) = texts
    reading, *warnings = text.split("\n")
    assert reading == READING
    return warnings


def same(base: Tiny) -> Tiny:
    return base


DIFFERENCES: dict[str, tuple[Callable[[Tiny], Tiny], Callable[[Tiny], Tiny], list[str]]] = {
    "checkpoint": (same, on_another_checkpoint, ["trained on another checkpoint of the same family"]),
    "v then": (
        lambda base: sampled_as(base, "v_prediction"),
        same,
        ["trained with v-prediction, this model has ε-prediction"],
    ),
    "x0 now": (same, lambda base: sampled_as(base, "x0"), ["with ε-prediction, this model has X0 sampling"]),
    "LCM is ε": (same, lambda base: sampled_as(base, "lcm"), []),
    "clip skip then": (
        lambda base: at_layer(base, -2),
        same,
        [
            "at CLIP layer -2 (clip skip 2), this CLIP is at CLIP layer -1 (clip skip 1). Put CLIP Set Last Layer with -2"
        ],
    ),
    "clip skip now": (same, lambda base: at_layer(base, -2), ["this CLIP is at CLIP layer -2 (clip skip 2)"]),
    "the layer it has anyway": (same, lambda base: at_layer(base, -1), []),
    "LoRAs then": (
        with_lora,
        same,
        [
            "with LoRAs or other patches on 2 weights of the model, this model has none",
            "with LoRAs or other patches on 1 weight of the CLIP, this CLIP has none",
        ],
    ),
    "LoRAs now": (
        same,
        with_lora,
        [
            "without LoRAs on the model, this model has some, or other patches, on 2 weights",
            "without LoRAs on the CLIP, this CLIP has some, or other patches, on 1 weight.",
        ],
    ),
    "same LoRAs": (with_lora, with_lora, []),
    "weaker LoRAs": (
        with_lora,
        lambda base: with_lora(base, 0.5),
        ["with other LoRAs on the model than this one has, or at other strengths"],
    ),
    "other LoRAs": (
        lambda base: with_lora(base, clip_strength=0.0),
        lambda base: with_lora(base, clip_strength=0.0, seed=2),
        ["with other LoRAs on the model"],
    ),
    "LoRAs at strength 0": (same, lambda base: with_lora(base, 0.0, 0.0), []),
}


@pytest.mark.parametrize("name", list(DIFFERENCES))
def test_each_difference_is_told_by_its_name(base: Tiny, name: str, caplog: pytest.LogCaptureFixture) -> None:
    then, now, expected = DIFFERENCES[name]
    with caplog.at_level(logging.WARNING, "comfyui_dci"):
        warnings = warnings_on(now(base), concept_of(then(base)))
    assert len(warnings) == len(expected), warnings
    assert all(words in warning for words, warning in zip(expected, warnings))
    assert [record.getMessage() for record in caplog.records] == warnings


@pytest.mark.parametrize("name", list(DIFFERENCES))
def test_a_file_of_older_versions_is_compared_by_what_it_says(base: Tiny, name: str) -> None:
    then, now, expected = DIFFERENCES[name]
    concept = random_concept(then(base))
    assert len(warnings_on(now(base), concept)) == (len(expected) if name == "checkpoint" else 0)


def test_a_second_concept_is_no_difference_unless_it_lay_there_in_the_training(base: Tiny) -> None:
    first, second = concept_of(base), concept_of(base)
    second = replace(second, info=replace(second.info, placeholder="W*"))
    with torch.inference_mode():
        model, clip = apply_concept(base.model, base.clip, first)
        texts: list[str] = []
        both, _ = apply_concept(model, clip, second, tell=texts.append)
    assert texts == ['W* is read as "W* cat"']
    on_it = concept_of(Tiny(model, base.clip, base.vae))
    assert not warnings_on(Tiny(model, base.clip, base.vae), on_it)
    (lost,) = warnings_on(base, on_it)
    assert f"on {len(first.deltas)} weights of the model, this model has none" in lost
    loras = with_lora(base)
    with torch.inference_mode():
        model, _ = apply_concept(loras.model, loras.clip, first)
    assert not warnings_on(Tiny(model, loras.clip, base.vae), concept_of(loras)), "the LoRAs are the same ones"


def test_a_merge_is_a_patch_too(base: Tiny) -> None:
    def merged(seed: int) -> Tiny:
        model, other = base.model.clone(), tiny_model("sd1", seed=seed).get_key_patches(LAYER)
        for key, weight in other.items():  # as ModelMergeSimple does for all weights
            model.add_patches({key: weight}, 0.5, 0.5)
        return Tiny(model, base.clip, base.vae)

    concept = concept_of(merged(5))
    assert not warnings_on(merged(5), concept)
    (warning,) = warnings_on(merged(6), concept)
    assert "with other LoRAs on the model" in warning


@pytest.mark.parametrize("family, layer", [("sd1", -1), ("sd2", -2), ("sdxl", -2)])
def test_without_a_choice_the_layer_is_the_text_encoders_own(family: str, layer: int) -> None:
    s = scene(family)
    facts = base_facts(s.base.model, s.base.clip)
    assert (facts.clip_layer, facts.prediction) == (layer, "epsilon")
    assert (facts.model_patches, facts.clip_patches) == ("0", "0")
    assert base_facts(s.model, s.clip).model_patches.startswith(f"{len(s.concept.deltas)} ")


def test_a_training_writes_down_what_it_was_trained_on(tmp_path: Path) -> None:
    base = at_layer(with_lora(tiny("mini", v_prediction=True)), -2)
    concept, _ = train(base, steps=1)
    save_concept(concept, tmp_path / "c.safetensors")
    info = load_concept(tmp_path / "c.safetensors").info
    assert (info.prediction, info.clip_layer) == ("v", -2)
    assert info.model_patches.startswith("2 ") and info.clip_patches.startswith("1 ")
    assert vars(base_facts(base.model, base.clip)).items() <= vars(info).items()
    assert not warnings_on(base, concept)


def test_the_node_shows_them(base: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, Any]] = []
    monkeypatch.setattr("comfyui_dci.nodes.host.node_text.send_text", lambda text, node: sent.append((text, node)))
    clone = ApplyConcept.PREPARE_CLASS_CLONE(None)
    clone.hidden.unique_id = "7"
    now = at_layer(base, -2)
    with torch.inference_mode():
        clone.EXECUTE_NORMALIZED(model=now.model, clip=now.clip, concept=concept_of(base), strength=1.0)
    ((text, node),) = sent
    assert node == "7" and text.startswith(f"{READING}\nThe concept was trained at CLIP layer -1")
    assert applying.reading_of(concept_of(base).info, True) == READING
