"""The blend of eq. 3-5 against METHOD section 3, written out again in plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from blend_formulas import (
    Branches,
    code_saliencies,
    expected_output,
    hand_made_branches,
    paper_saliencies,
    random_branches,
)
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prompt.tokens import TokenSet, token_set
from comfyui_dci.dci_core.sampling import dbim
from comfyui_dci.dci_core.sampling.dbim import (
    attention_scores,
    auxiliary_weight,
    blend_outputs,
    layer_gain,
    layer_strength,
    paper_token_map,
    reference_token_map,
    saliency,
)
from comfyui_dci.dci_core.sampling.dial import Part
from comfyui_dci.dci_core.sampling.settings import MaskPreset
from torch import Tensor

# Both sides are float64. Saliencies reach 500, so a relative error of 1e-16 in the spatial softmax, collected
# over a few hundred additions, becomes at most about 1e-13 in s and no more in W.
TOLERANCE = 1e-12
ONE_MAP = Part(((6, 1.0),))  # as if SD1.5 had the maps of these tests, so that the gain is 500


def integrated(b: Branches, injection_strength: float, preset: MaskPreset, relative_area: float = 1.0) -> Tensor:
    """The same through dci_core."""
    gain = layer_gain(preset, ONE_MAP, b.q_concept.shape[1], relative_area)
    s_c = saliency(attention_scores(b.q_concept, b.k_concept, b.heads), b.concept_set, preset, gain)
    s_a = saliency(attention_scores(b.q_auxiliary, b.k_auxiliary, b.heads), b.auxiliary_set, preset, gain)
    return blend_outputs(b.out_concept, b.out_auxiliary, auxiliary_weight(s_c, s_a, injection_strength))


@pytest.mark.parametrize("preset", [MaskPreset.REFERENCE, MaskPreset.PAPER])
@pytest.mark.parametrize("injection_strength", [-2.0, -0.5, 0.0, 0.7, 2.0])
@pytest.mark.parametrize(
    "branches",
    [hand_made_branches(), random_branches(0), random_branches(1, scale=3.0)],
    ids=["hand-made", "random", "random and sharp"],
)
def test_the_blend_equals_the_formulas_in_plain_loops(
    branches: Branches, injection_strength: float, preset: MaskPreset
) -> None:
    expected = expected_output(branches, injection_strength, preset)
    torch.testing.assert_close(integrated(branches, injection_strength, preset), expected, atol=TOLERANCE, rtol=0)


def test_saliencies_equal_the_formulas_head_by_head() -> None:
    b = random_branches(2)
    scores_c = attention_scores(b.q_concept, b.k_concept, b.heads)
    scores_a = attention_scores(b.q_auxiliary, b.k_auxiliary, b.heads)
    for image in range(2):
        for head in range(b.heads):
            s_c, s_a = code_saliencies(b, image, head)
            reference_c = saliency(scores_c, b.concept_set, MaskPreset.REFERENCE)[image, head]
            reference_a = saliency(scores_a, b.auxiliary_set, MaskPreset.REFERENCE)[image, head]
            assert reference_c.tolist() == pytest.approx(s_c, abs=TOLERANCE)
            assert reference_a.tolist() == pytest.approx(s_a, abs=TOLERANCE)
            p_c, p_a = paper_saliencies(b, image, head)
            assert saliency(scores_c, b.concept_set, MaskPreset.PAPER)[image, head].tolist() == pytest.approx(p_c)
            assert saliency(scores_a, b.auxiliary_set, MaskPreset.PAPER)[image, head].tolist() == pytest.approx(p_a)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_blends_almost_as_exactly_as_its_result_can_be_written(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    concept, auxiliary = (torch.randn(2, 64, 320, generator=generator).to(dtype) for _ in range(2))
    weight = torch.rand(2, 8, 64, generator=generator)
    blended = blend_outputs(concept, auxiliary, weight)
    exact = blend_outputs(concept.double(), auxiliary.double(), weight.double())
    error, rounding = ((one.double() - exact).abs().mean().item() for one in (blended, exact.to(dtype)))
    assert blended.dtype == dtype and error < 1.5 * rounding


def test_raw_scores_are_dot_products_over_the_root_of_the_head_width() -> None:
    q = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 10.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    k = torch.tensor([[[1.0, 1.0, 1.0, 1.0, 0.5, 9.0, 9.0, 9.0], [2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]]).double()
    # head 0: (1 + 2 + 3 + 4)/2 and 2/2; head 1: 10·0.5/2 and 0
    assert attention_scores(q, k, heads=2).tolist() == [[[[5.0, 1.0]], [[2.5, 0.0]]]]


@pytest.mark.parametrize("positions", [(1, 2, 3), (0,), (), (1, 3, 4, 7), (0, 1, 5, 6), (7, 0, 1)])
def test_columns_are_those_of_the_list_and_neighbours_are_not_copied(positions: tuple[int, ...]) -> None:
    values = torch.arange(48.0).view(2, 3, 8)
    taken = dbim.columns(values, positions)
    assert torch.equal(taken, values[..., list(positions)])
    neighbours = list(positions) == list(range(positions[0], positions[0] + len(positions))) if positions else False
    shares = taken.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
    assert shares == neighbours


def test_two_pixels_and_three_tokens_by_hand() -> None:
    """Attention of pixel 0 is (0.5, 0.3, 0.2), of pixel 1 (0.5, 0.2, 0.3); token 0 is BOS, token 1 the concept."""
    scores = torch.tensor([[[[0.5, 0.3, 0.2], [0.5, 0.2, 0.3]]]], dtype=torch.float64).log()
    tokens = TokenSet(prompt=(1, 2), selected=(1,))
    # A' = softmax(10·(0.3, 0.2)): its first entry is σ(3 - 2) = 1/(1 + e⁻¹); for pixel 1 it is σ(-1)
    m = reference_token_map(scores, tokens)
    assert m.tolist() == [[[pytest.approx(0.7310585786300049), pytest.approx(0.2689414213699951)]]]
    # softmax over the two pixels of 10·m: σ(10·(0.73106 - 0.26894)) = σ(4.62117) = 0.9902546; times 500
    s = saliency(scores, tokens, MaskPreset.REFERENCE)
    assert s.tolist() == [[[pytest.approx(495.12732, abs=1e-4), pytest.approx(4.87268, abs=1e-4)]]]
    # λ = 0: W_a = σ(-s): nothing at pixel 0, σ(-4.87268) = 0.0076 at pixel 1
    w_a = auxiliary_weight(s, torch.zeros_like(s), 0.0)
    assert w_a.tolist() == [[[pytest.approx(0.0, abs=1e-100), pytest.approx(0.0075947, abs=1e-6)]]]


def test_the_paper_map_sums_raw_scores_by_hand() -> None:
    scores = torch.tensor([[[[9.0, 0.25, 0.5], [9.0, 1.0, -1.0]]]], dtype=torch.float64)
    tokens = TokenSet(prompt=(1, 2), selected=(1, 2))
    assert paper_token_map(scores, tokens).tolist() == [[[0.75, 0.0]]]
    # softmax of (0.75, 0) = (σ(0.75), σ(-0.75))
    s = saliency(scores, tokens, MaskPreset.PAPER)
    assert s.tolist() == [[[pytest.approx(0.679178699), pytest.approx(0.320821301)]]]


def test_two_heads_are_blended_apart_by_hand() -> None:
    concept = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], dtype=torch.float64)
    auxiliary = torch.tensor([[[5.0, 6.0, 7.0, 8.0]]], dtype=torch.float64)
    weight = torch.tensor([[[0.25], [1.0]]], dtype=torch.float64)  # head 0 a quarter, head 1 all auxiliary
    assert blend_outputs(concept, auxiliary, weight).tolist() == [[[2.0, 3.0, 7.0, 8.0]]]


def test_the_auxiliary_weight_by_hand() -> None:
    s_c, s_a = torch.tensor([[[2.0]]]).double(), torch.tensor([[[3.0]]]).double()
    # softmax over (2, λ·3): λ = 0 → σ(-2), λ = 1 → σ(1), λ = -1 → σ(-5)
    assert auxiliary_weight(s_c, s_a, 0.0).item() == pytest.approx(0.11920292202211755)
    assert auxiliary_weight(s_c, s_a, 1.0).item() == pytest.approx(0.7310585786300049)
    assert auxiliary_weight(s_c, s_a, -1.0).item() == pytest.approx(0.0066928509242848554)


def test_raising_lambda_lets_more_of_the_auxiliary_branch_in_everywhere() -> None:
    generator = torch.Generator().manual_seed(3)
    s_c, s_a = (0.1 + 3.0 * torch.rand(2, 2, 5, generator=generator).double() for _ in range(2))
    weights = [auxiliary_weight(s_c, s_a, strength) for strength in (-2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0)]
    for lower, higher in zip(weights, weights[1:]):
        assert (higher > lower).all()


@pytest.mark.parametrize("preset", list(MaskPreset))
def test_lambda_zero_never_gives_the_auxiliary_branch_more_than_half(preset: MaskPreset) -> None:
    b = random_branches(4)
    s_c = saliency(attention_scores(b.q_concept, b.k_concept, b.heads), b.concept_set, preset)
    s_a = saliency(attention_scores(b.q_auxiliary, b.k_auxiliary, b.heads), b.auxiliary_set, preset)
    w_a = auxiliary_weight(s_c, s_a, 0.0)
    assert torch.equal(w_a, torch.sigmoid(-s_c))
    assert (w_a <= 0.5).all()


def test_the_literal_paper_masks_stay_near_one_half() -> None:
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(1, 2, 4096, 7, generator=generator, dtype=torch.float64)
    tokens = TokenSet((1, 2, 3, 4), (1, 2))
    s = saliency(scores, tokens, MaskPreset.PAPER)
    assert (auxiliary_weight(s, s, 2.0) - 0.5).abs().max() < 0.02


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weight_zero_leaves_the_concept_output_bit_identical(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(6)
    concept = torch.randn(2, 5, 8, generator=generator).to(dtype)
    auxiliary = torch.randn(2, 5, 8, generator=generator).to(dtype)
    blended = blend_outputs(concept, auxiliary, torch.zeros(2, 4, 5))
    assert blended.dtype == dtype
    assert torch.equal(blended, concept)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_in_float32_and_the_output_keeps_its_type(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(7)
    q, k = (torch.randn(1, n, 8, generator=generator).to(dtype) for n in (6, 9))
    scores = attention_scores(q, k, heads=2)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, attention_scores(q.float(), k.float(), heads=2))
    s = saliency(scores, TokenSet((1, 2, 3), (2,)), MaskPreset.REFERENCE)
    assert s.dtype == torch.float32
    assert blend_outputs(q, -q, auxiliary_weight(s, s, 1.0)).dtype == dtype


def test_the_gain_of_a_layer_by_hand() -> None:
    sd15 = Part(((1024, 1.0),))
    assert layer_gain(MaskPreset.REFERENCE, sd15, 4096, 2.25) == 500.0
    assert layer_gain(MaskPreset.RESOLUTION_NORMALIZED, sd15, 4096, 2.25) == 1125.0
    assert layer_gain(MaskPreset.RESOLUTION_NORMALIZED, sd15, 4096, 1.0) == 500.0
    assert layer_gain(MaskPreset.CALIBRATED, sd15, 4096, 2.25) == 2000.0
    assert layer_gain(MaskPreset.CALIBRATED, sd15, 1024, 2.25) == 500.0


def test_only_the_calibrated_preset_gives_a_layer_a_strength_of_its_own() -> None:
    mixed = Part(((256, 0.5), (1024, 0.5)))
    strengths = {preset: layer_strength(preset, mixed, 2.0) for preset in MaskPreset}
    assert strengths.pop(MaskPreset.CALIBRATED) == mixed.strength(2.0) != 2.0
    assert set(strengths.values()) == {2.0}


def test_the_paper_has_no_gain_and_the_others_scale_with_it() -> None:
    b = random_branches(9)
    scores = attention_scores(b.q_concept, b.k_concept, b.heads)
    plain = {preset: saliency(scores, b.concept_set, preset) for preset in MaskPreset}
    large = {preset: saliency(scores, b.concept_set, preset, 1125.0) for preset in MaskPreset}
    for preset in MaskPreset:
        factor = 1.0 if preset is MaskPreset.PAPER else 2.25
        torch.testing.assert_close(large[preset], factor * plain[preset])


@pytest.mark.parametrize("preset", [MaskPreset.RESOLUTION_NORMALIZED, MaskPreset.CALIBRATED])
def test_a_repeated_map_has_the_masks_of_the_small_one(preset: MaskPreset) -> None:
    """Four times the pixels with the same content: softmax_pixels is a quarter, the gain four times as large."""
    b = random_branches(10)
    small = attention_scores(b.q_concept, b.k_concept, b.heads)
    large = small.repeat(1, 1, 4, 1)
    tokens = small.shape[2]
    part = Part(((tokens, 1.0),))
    expected = saliency(small, b.concept_set, MaskPreset.REFERENCE).repeat(1, 1, 4)
    actual = saliency(large, b.concept_set, preset, layer_gain(preset, part, 4 * tokens, 4.0))
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("preset, expected", [(MaskPreset.REFERENCE, 500.0 / 6), (MaskPreset.PAPER, 1.0 / 6)])
def test_a_branch_without_selected_tokens_claims_every_pixel_alike(preset: MaskPreset, expected: float) -> None:
    b = random_branches(11)
    scores = attention_scores(b.q_concept, b.k_concept, b.heads)
    s = saliency(scores, TokenSet((1, 2, 3), ()), preset)
    torch.testing.assert_close(s, torch.full((2, 3, 6), expected, dtype=torch.float64))


def test_a_branch_that_selects_its_whole_prompt_claims_every_pixel_alike() -> None:
    b = random_branches(12)
    scores = attention_scores(b.q_concept, b.k_concept, b.heads)
    m = reference_token_map(scores, TokenSet((1, 2, 3), (1, 2, 3)))
    torch.testing.assert_close(m, torch.ones(2, 3, 6, dtype=torch.float64))


def test_tokens_outside_the_prompt_share_attention_but_not_the_renormalised_sum() -> None:
    """Padding takes attention away, so it changes m; its own share is never counted."""
    scores = torch.tensor([[[[0.0, 1.0, 0.0, 0.0]]]], dtype=torch.float64)
    tokens = TokenSet((1, 2), (1,))
    e = math.e
    for padding in (0.0, 4.0):
        scores[..., 3] = padding
        total = 2.0 + e + math.exp(padding)
        assert reference_token_map(scores, tokens).item() == pytest.approx(1 / (1 + math.exp(-10 * (e - 1) / total)))


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(UserInputError, match="no tokens. Write at least one word"):
        TokenSet(prompt=(), selected=())


def test_selected_positions_outside_the_prompt_are_refused_by_number() -> None:
    with pytest.raises(UserInputError, match=r"positions \[0, 9\] are not among the prompt's positions \[1, 2, 3\]"):
        TokenSet(prompt=(1, 2, 3), selected=(9, 2, 0))


def test_without_masks_the_outputs_are_added_or_averaged() -> None:
    concept, auxiliary = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[3.0, 5.0]]])
    assert dbim.add_outputs(concept, auxiliary, average=False).tolist() == [[[4.0, 3.0]]]
    assert dbim.add_outputs(concept, auxiliary, average=True).tolist() == [[[2.0, 1.5]]]


def test_two_concepts_claim_the_sum_of_what_each_claims() -> None:
    scores = torch.randn(1, 2, 5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prompt = (1, 2, 3, 4, 5, 6)
    one, two = TokenSet(prompt, (2, 3)), TokenSet(prompt, (5,))
    union = token_set([(position, None) for position in prompt], [two.selected, one.selected])
    assert union == TokenSet(prompt, (2, 3, 5))
    both = reference_token_map(scores, union)
    torch.testing.assert_close(both, reference_token_map(scores, one) + reference_token_map(scores, two))
