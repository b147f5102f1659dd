"""What a concept fits, and the fingerprint of its base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.base import BaseFacts, differences
from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo, check_concept_fits, key_value_hash, renamed
from comfyui_dci.dci_core.errors import UserInputError
from torch import Tensor

LAYER = "diffusion_model.middle_block.1.transformer_blocks.0.attn2"


def small_concept() -> Concept:
    info = ConceptInfo(
        family="sd1",
        class_noun="cat",
        placeholder="V*",
        prefix=1,
        suffix=1,
        concept_vectors=3,
        steps=500,
        seed=7,
        base_hash="abc",
    )
    deltas = {f"{LAYER}.to_k": torch.zeros(4, 6), f"{LAYER}.to_v": torch.zeros(4, 6)}
    return Concept(deltas, {"clip_l": torch.zeros(3, 6)}, info)


def model(**changes: Any) -> dict[str, Any]:
    """What ``small_concept`` fits, with changes."""
    shapes = {f"{LAYER}.to_k": (4, 6), f"{LAYER}.to_v": (4, 6)}
    return {"family": "sd1", "shapes": shapes, "token_widths": {"clip_l": 6}} | changes


def test_a_concept_fits_the_model_it_was_trained_on_without_a_word() -> None:
    check_concept_fits(small_concept(), **model())
    assert differences(small_concept().info, BaseFacts("abc")) == []


def test_another_base_of_the_same_family_is_warned_about() -> None:
    (warning,) = differences(small_concept().info, BaseFacts("abd"))
    assert "another checkpoint of the same family" in warning
    assert "likeness may differ" in warning
    assert "Train it again on this checkpoint" in warning and "quantised" not in warning
    (warning,) = differences(small_concept().info, BaseFacts("abd"), "float8_e4m3fn")
    assert "This one is quantised (float8_e4m3fn), its K and V are rounded" in warning
    assert differences(small_concept().info, BaseFacts("abc"), "float8_e4m3fn") == []


@pytest.mark.parametrize(
    "changes, told",
    [
        (
            {"family": "sdxl"},
            ["trained on a sd1 model, this is a sdxl model", "Load a sd1 checkpoint, or train the concept again"],
        ),
        (
            {"shapes": {f"{LAYER}.to_k": (4, 6)}},
            ["changes 2 cross-attention weights, this model has 1", f"{LAYER}.to_v", "Use the checkpoint"],
        ),
        (
            {"shapes": {f"{LAYER}.to_k": (4, 6), f"{LAYER}.to_v": (4, 6), "other.to_k": (4, 6)}},
            ["changes 2 cross-attention weights, this model has 3", "first difference: other.to_k"],
        ),
        (
            {"shapes": {f"{LAYER}.to_k": (4, 6), f"{LAYER}.to_v": (4, 7)}},
            [f"{LAYER}.to_v has shape (4, 6), the model's has (4, 7)", "Use the checkpoint it was trained on"],
        ),
        (
            {"token_widths": {"clip_l": 8}},
            ["vectors for clip_l are 6 wide, this CLIP has {'clip_l': 8}", "Connect the CLIP of the checkpoint"],
        ),
        (
            {"token_widths": {"clip_h": 6}},
            ["vectors for clip_l are 6 wide, this CLIP has {'clip_h': 6}", "Connect the CLIP of the checkpoint"],
        ),
        (
            {"token_widths": {"clip_l": 6, "clip_g": 8}},
            ["vectors for ['clip_l'], this CLIP has the text encoders ['clip_g', 'clip_l']", "Connect the CLIP"],
        ),
    ],
)
def test_a_concept_that_does_not_fit_is_refused_with_both_sides_and_the_way_out(
    changes: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(UserInputError) as refusal:
        check_concept_fits(small_concept(), **model(**changes))
    for words in told:
        assert words in str(refusal.value)


def base_weights() -> list[tuple[str, Tensor]]:
    return [("a.to_k", torch.arange(6.0).view(2, 3)), ("a.to_v", torch.arange(6.0).view(2, 3) + 1)]


def test_the_hash_is_a_sha256_that_never_changes() -> None:
    """Golden: it is written into concept files, where a change would warn everybody of another checkpoint."""
    assert key_value_hash(base_weights()) == "498836d5323b0fa7942c8e5b01eb4a06769bda55c07e2ea7b45148f471575a31"


def test_the_hash_does_not_depend_on_order_or_memory_layout() -> None:
    weights = base_weights()
    turned = [(name, weight.t().contiguous().t()) for name, weight in reversed(weights)]
    assert not turned[0][1].is_contiguous()
    assert key_value_hash(iter(turned)) == key_value_hash(weights)


@pytest.mark.parametrize(
    "change",
    [
        lambda name, weight: (name.replace("a.", "b."), weight),
        lambda name, weight: (name, weight.to(torch.float64)),
        lambda name, weight: (name, weight.view(torch.int32)),
        lambda name, weight: (name, weight.reshape(3, 2)),
        lambda name, weight: (name, weight + torch.tensor([0.0, 0.0, 1e-6])),
        lambda name, weight: (name, -weight.flip(0)),
        lambda name, weight: (name, weight.half()),
    ],
    ids=["name", "wider type", "type of the same bytes", "shape", "one value", "values", "narrower type"],
)
def test_the_hash_changes_with(change: Callable[[str, Tensor], tuple[str, Tensor]]) -> None:
    weights = base_weights()
    assert key_value_hash([change(*weights[0]), weights[1]]) != key_value_hash(weights)


def test_swapping_two_weights_changes_the_hash() -> None:
    (first, k), (second, v) = base_weights()
    assert key_value_hash([(first, v), (second, k)]) != key_value_hash(base_weights())


def test_bfloat16_weights_have_a_hash_of_their_own() -> None:
    wide = base_weights()
    narrow = [(name, weight.bfloat16()) for name, weight in wide]
    changed = [(narrow[0][0], narrow[0][1] + 0.5), narrow[1]]
    hashes = {key_value_hash(weights) for weights in (wide, narrow, changed)}
    assert len(hashes) == 3


def test_trained_parameters_can_be_hashed() -> None:
    weights = base_weights()
    parameters = [(name, torch.nn.Parameter(weight)) for name, weight in weights]
    assert key_value_hash(parameters) == key_value_hash(weights)


def test_a_concept_can_be_called_by_another_name() -> None:
    concept = small_concept()
    other = renamed(concept, " W* ")
    assert other.info.placeholder == "W*" and other.tokens is concept.tokens and concept.info.placeholder == "V*"
    assert renamed(concept, "  ") is concept
    with pytest.raises(UserInputError, match="'Cat' is a word of the class noun"):
        renamed(concept, "Cat")
