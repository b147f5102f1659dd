"""A conditioning that speaks of a concept which the sampled model does not carry is told."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.carried import SpokenConcept, carried_thumbnails, carry, mark_of, not_carried
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from scenes import ksample, scene

from workbench.tiny import tiny


def test_marks_tell_concepts_apart_and_not_how_their_vectors_are_kept() -> None:
    vectors = torch.rand(3, 8)
    assert mark_of({"clip_l": vectors}) == mark_of({"clip_l": tuple(vectors.clone().unbind())})
    assert mark_of({"clip_l": vectors}) != mark_of({"clip_l": vectors + 1})
    assert mark_of({"clip_l": vectors}) != mark_of({"clip_g": vectors})


def test_a_model_and_its_clones_carry_what_was_noted() -> None:
    base = tiny("mini").model
    model = base.clone()
    carry(model, "first")
    later = model.clone()
    carry(later, "second", "data:a")
    spoken = [SpokenConcept("V* cat", "first"), SpokenConcept("W* dog", "second"), SpokenConcept("W* dog", "second")]
    assert not_carried(later, spoken) == [] and not_carried(model, spoken) == ["W* dog"]
    assert not_carried(base, spoken) == ["V* cat", "W* dog"]
    assert carried_thumbnails(later) == ["data:a"] and carried_thumbnails(base) == []


@pytest.mark.parametrize("carries", [True, False])
def test_the_run_says_so(carries: bool) -> None:
    s, told = scene(), []
    model = s.model if carries else tiny("sd1").model
    ksample(apply_dci(model, DCISettings(), tell=told.append)[0], s.positive, s.negative, steps=2)
    said = "the model does not carry V* cat, of which the positive speaks: connect the model that Apply Concept returns"
    assert (said in told[0]) is not carries


def test_of_a_model_whose_text_attention_a_lora_or_a_merge_changes_nothing_is_said() -> None:
    """The concept's file is a LoRA too, and loaded as one leaves no note."""
    s = scene()
    model = tiny("sd1").model.clone()
    spoken = [SpokenConcept("V* cat", "a mark")]
    patches = {key: value for key, value in s.model.patches.items() if ".attn2.to_k." in key}
    assert patches and not_carried(model, spoken) == ["V* cat"]
    model.patches = patches
    assert not_carried(model, spoken) == []
    carry(model, "another")
    assert not_carried(model, spoken) == ["V* cat"]
