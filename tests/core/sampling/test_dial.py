"""What λ means: hand-computed for three layer lists, and the same for every list, size and λ."""

from __future__ import annotations

import math

import pytest
from comfyui_dci.dci_core.sampling.dial import Part, even_weight, mean_even_weight, parts_of

SD15 = {0: 5, 1: 5, 2: 5, 3: 1}  # layers by halvings of the latent's edge
SDXL = {1: 10, 2: 60}
DEMO = {0: 3, 1: 3, 2: 4}
STRENGTHS = [-10.0, -2.0, -1.0, 0.0, 0.5, 1.0, 1.3, 2.0, 5.0, 10.0]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def sd15_mean(strength: float) -> float:
    """SD1.5 at 512², written out: five layers of 64², 32² and 16² each, one of 8²."""
    turn = 500.0 * (strength - 1.0)
    return (5 * (sigmoid(turn / 4096) + sigmoid(turn / 1024) + sigmoid(turn / 256)) + sigmoid(turn / 64)) / 16


@pytest.mark.parametrize(
    "strength, weights",  # of 64², 32², 16², 8² (METHOD section 7)
    [(0.0, (0.47, 0.38, 0.12, 0.00)), (2.0, (0.53, 0.62, 0.88, 1.00)), (-2.0, (0.41, 0.19, 0.00, 0.00))],
)
def test_even_maps_of_sd15_have_the_weights_of_the_published_code(strength: float, weights: tuple[float, ...]) -> None:
    for edge, weight in zip((64, 32, 16, 8), weights):
        assert even_weight(strength, 500.0, edge * edge) == pytest.approx(weight, abs=5e-3)


def test_the_meaning_of_three_strengths_by_hand() -> None:
    # 0: (5·(0.46951 + 0.38031 + 0.12418) + 0.00040)/16; 2: the complement of 0's; -2: (5·(0.40945 + 0.18770 + 0.00284))/16
    for layers in (SD15, SDXL, DEMO):
        assert mean_even_weight(layers, 0.0) == pytest.approx(0.30440, abs=1e-4)
        assert mean_even_weight(layers, 2.0) == pytest.approx(0.69560, abs=1e-4)
        assert mean_even_weight(layers, -2.0) == pytest.approx(0.18750, abs=1e-4)
        assert mean_even_weight(layers, 1.0) == 0.5


@pytest.mark.parametrize("layers", [SD15, SDXL, DEMO, {0: 1}, {1: 2, 2: 7, 3: 11}, {4: 3}])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_every_layer_list_means_the_same(layers: dict[int, int], strength: float) -> None:
    assert mean_even_weight(layers, strength) == pytest.approx(sd15_mean(strength), abs=1e-12)


@pytest.mark.parametrize("layers", [SD15, SDXL, DEMO, {0: 1}])
@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("edge", [8, 37, 128])
def test_gain_and_strength_of_a_part_give_its_weight_on_any_map(
    layers: dict[int, int], strength: float, edge: int
) -> None:
    tokens = edge * edge
    for part in parts_of(layers).values():
        weight = even_weight(part.strength(strength), part.gain(tokens), tokens)
        assert weight == pytest.approx(part.even_weight(strength), abs=1e-12)


@pytest.mark.parametrize("edge", [64, 32, 16, 8])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_sd15_at_512_is_the_published_code_to_the_bit(edge: int, strength: float) -> None:
    part = parts_of(SD15)[int(math.log2(64 // edge))]
    assert part.gain(edge * edge) == 500.0
    assert part.strength(strength) == strength


def test_the_parts_of_sdxl_by_hand() -> None:
    """70 layers beside 16: the 60 of 32² take 60/70 of the row, from 8² to 13.714/16, which is 2.714 of five layers of 64²."""
    parts = parts_of(SDXL)
    assert parts[1] == Part(((4096, 1.0),))
    shares = {64: 7 / 96, 256: 35 / 96, 1024: 35 / 96, 4096: 19 / 96}  # of 60·16/70 = 96/7 layers
    assert dict(parts[2].maps) == pytest.approx(shares)
    assert parts[2].gain(1024) == pytest.approx(1024 * 500 * sum(share / n for n, share in shares.items()))


@pytest.mark.parametrize("layers", [SDXL, DEMO])
def test_more_strength_is_more_auxiliary_wherever_attention_lies(layers: dict[int, int]) -> None:
    strengths = [part.strength(s) for part in parts_of(layers).values() for s in (-50.0, *STRENGTHS, 50.0)]
    rows = [strengths[start : start + len(STRENGTHS) + 2] for start in range(0, len(strengths), len(STRENGTHS) + 2)]
    assert all(row == sorted(row) and len(set(row)) == len(row) for row in rows)
