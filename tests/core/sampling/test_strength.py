"""λ per map size and over time: sums by hand, and nothing added is exactly nothing. Lists of λ are read as written."""

from __future__ import annotations

import math

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.strength import (
    MapScale,
    StrengthSchedule,
    active_progress,
    map_scale,
    parse_injection_strengths,
)

FULL, HALF, QUARTER, EIGHTH = MapScale


@pytest.mark.parametrize(
    ("size", "latent", "scale"),
    [
        ((64, 64), (64, 64), FULL),
        ((32, 32), (64, 64), HALF),
        ((16, 16), (64, 64), QUARTER),
        ((8, 8), (64, 64), EIGHTH),
        ((4, 4), (64, 64), EIGHTH),
        ((64, 64), (128, 128), HALF),
        ((48, 80), (48, 80), FULL),
        ((12, 20), (48, 80), QUARTER),
        ((9, 13), (67, 100), EIGHTH),  # the network rounds up: 67 → 34 → 17 → 9
        ((96, 96), (64, 64), FULL),
    ],
)
def test_a_map_has_the_nearest_scale(size: tuple[int, int], latent: tuple[int, int], scale: MapScale) -> None:
    assert map_scale(size, latent) is scale


def test_offsets_are_added_by_hand() -> None:
    schedule = StrengthSchedule(0.5, -0.25, 1.0, 2.0, at_start=1.0, at_end=-1.0)
    assert schedule.strength(0.0, FULL, 0.0) == 1.5
    assert schedule.strength(1.0, HALF, 0.5) == 0.75  # 1 - 0.25 + 0
    assert schedule.strength(-2.0, QUARTER, 0.25) == -0.5  # -2 + 1 + 0.5
    assert schedule.strength(0.0, EIGHTH, 1.0) == 1.0


@pytest.mark.parametrize("strength", [-2.0, 0.0, 0.1, 1 / 3])
def test_nothing_added_is_the_same_number(strength: float) -> None:
    assert {StrengthSchedule().strength(strength, scale, p) for scale in MapScale for p in (0.0, 0.3, 1.0)} == {
        strength
    }


def test_progress_is_linear_in_the_timestep() -> None:
    assert active_progress(999, 999, 849) == 0.0
    assert active_progress(924, 999, 849) == 0.5
    assert active_progress(849, 999, 849) == 1.0
    assert active_progress(1000, 999, 849) == 0.0 and active_progress(0, 999, 849) == 1.0
    assert active_progress(5, 5, 5) == 0.0
    assert active_progress(0.3, 0.3, -math.inf) == 0.0


@pytest.mark.parametrize("field", StrengthSchedule.__dataclass_fields__)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_named(field: str, value: float) -> None:
    with pytest.raises(UserInputError, match=f"{field} must be a finite number, but got {value}"):
        StrengthSchedule(**{field: value})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("-2, -1, 0, 1, 2", (-2, -1, 0, 1, 2)),
        ("1.5", (1.5,)),
        (" 2;0.25\n-1e-1,, 2 ", (2, 0.25, -0.1, 2)),
        ("\N{MINUS SIGN}1 10 -10", (-1, 10, -10)),
        ("-2:2:1", (-2, -1, 0, 1, 2)),
        ("0:0.3:0.1, 5", (0, 0.1, 0.2, 0.3, 5)),
        ("1:-0.5:-0.6", (1, 0.4, -0.2)),
        ("\N{MINUS SIGN}1:-1:0.5", (-1,)),
    ],
)
def test_values_are_taken_in_the_order_given(text: str, values: tuple[float, ...]) -> None:
    assert parse_injection_strengths(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds 0 values"),
        (" , ", "holds 0 values"),
        ("1 " * 51, "holds 51 values; 1 to 50"),
        ("1, two", "holds 'two'"),
        ("nan", "holds 'nan'"),
        ("-inf", "holds '-inf'"),
        ("0, 10.5", "holds '10.5'.*between -10 and 10"),
        ("0, -2:2", "holds '-2:2', which is not from:to:step"),
        ("-2:2:0", "steps of 0 never lead from -2 to 2"),
        ("2:-2:1", "steps of 1 never lead from 2 to -2"),
        ("0:11:1", "holds '11'"),
        ("0::1", "holds ''"),
        ("-10:10:1e-9, 0", "holds 20000000002 values; 1 to 50"),
    ],
)
def test_anything_else_is_refused_with_an_example(text: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message) as refusal:
        parse_injection_strengths(text)
    assert '"-2, -1, 0, 1, 2"' in str(refusal.value) and '"-2:2:1"' in str(refusal.value)
