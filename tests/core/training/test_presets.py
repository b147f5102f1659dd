"""Presets: what they hold, rates by the model's scale, and whose value wins."""

from __future__ import annotations

import math
from typing import Any

import pytest
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.presets import (
    PRESET_INPUTS,
    PRESETS,
    SD1_SCALE,
    ModelScale,
    PresetName,
    RunValues,
    run_values,
)
from comfyui_dci.dci_core.training.settings import TrainingSettings

OWN: dict[str, Any] = {
    "contexts_before": 0,
    "contexts_after": 3,
    "concept_vectors": 1,
    "steps": 7,
    "batch_size": 3,
    "learning_rate": 0.0,
    "context_learning_rate": 1e-2,
    "checkpoint_every": 0,
    "checkpoints_kept": 9,
}


@pytest.mark.parametrize(
    "width, std, expected",
    [
        # 6e-5 · √(768 / width); 6e-5 · std / 0.014; 6e-4 · std / 0.014, to three digits
        (768, 0.014, (6e-5, 6e-5, 6e-4)),
        (1024, 0.014, (5.2e-5, 6e-5, 6e-4)),  # √0.75 = 0.8660
        (2048, 0.014, (3.67e-5, 6e-5, 6e-4)),  # √0.375 = 0.6124
        (768, 0.028, (6e-5, 1.2e-4, 1.2e-3)),
        (128, 0.02, (1.47e-4, 8.57e-5, 8.57e-4)),  # √6 = 2.449
    ],
)
def test_rates_by_hand(width: int, std: float, expected: tuple[float, float, float]) -> None:
    values = run_values(PresetName.WITH_DCI, ModelScale(width, std))
    assert (values.learning_rate, values.token_learning_rate, values.context_learning_rate) == expected
    quick = run_values(PresetName.QUICK_LOOK, ModelScale(width, std))
    assert quick.learning_rate == pytest.approx(2 * expected[0], rel=0.005)
    assert quick.token_learning_rate == pytest.approx(2 * expected[1], rel=0.005)
    assert quick.context_learning_rate == pytest.approx(2 * expected[2], rel=0.005)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("with_dci", RunValues(ICOScheme(1, 1, 3), 900, 2, 6e-5, 6e-5, 6e-4, 150, 6)),
        ("alone", RunValues(ICOScheme(4, 2, 2), 450, 2, 6e-5, 6e-5, 6e-4, 75, 6)),
        ("quick_look", RunValues(ICOScheme(1, 1, 3), 150, 1, 1.2e-4, 1.2e-4, 1.2e-3, 50, 3)),
    ],
)
def test_presets_on_sd1(name: str, expected: RunValues) -> None:
    values = run_values(PresetName(name), SD1_SCALE)
    assert values == expected and values.own == ()
    assert (
        run_values(PresetName(name), SD1_SCALE, {**dict.fromkeys(PRESET_INPUTS, -1), "token_learning_rate": -1.0})
        == values
    )
    assert TrainingSettings(**values.settings).steps == values.steps


def test_the_defaults_of_the_settings_are_the_preset_for_dci_on_sd1() -> None:
    values = run_values(PresetName.WITH_DCI, SD1_SCALE)
    assert TrainingSettings(**{**values.settings, "token_learning_rate": None}) == TrainingSettings()
    assert values.token_learning_rate == TrainingSettings().learning_rate


@pytest.mark.parametrize("name", list(OWN))
def test_what_is_given_wins_over_the_preset(name: str) -> None:
    plain = run_values(PresetName.ALONE, SD1_SCALE)
    values = run_values(PresetName.ALONE, SD1_SCALE, {**dict.fromkeys(PRESET_INPUTS, -1), name: OWN[name]})
    flat = [
        {
            "contexts_before": v.scheme.prefix,
            "contexts_after": v.scheme.suffix,
            "concept_vectors": v.scheme.concept_vectors,
        }
        | {key: getattr(v, key) for key in PRESET_INPUTS[3:]}
        for v in (plain, values)
    ]
    assert flat[1] == {**flat[0], name: OWN[name]} and flat[0] != flat[1]
    assert values.own == (name,)


def test_everything_given_needs_neither_preset_nor_scale() -> None:
    for preset in PresetName:
        values = run_values(preset, ModelScale(1, float("nan")), OWN)
        assert values == RunValues(ICOScheme(0, 3, 1), 7, 3, 0.0, None, 1e-2, 0, 9)


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, 1.2e-4),  # the preset's own, from the embeddings
        ({"token_learning_rate": -1.0}, 1.2e-4),
        ({"learning_rate": 1e-3}, None),  # goes with a given learning rate
        ({"learning_rate": 1e-3, "token_learning_rate": -1}, None),
        ({"learning_rate": 1e-3, "token_learning_rate": 2e-4}, 2e-4),
        ({"token_learning_rate": 0.0}, 0.0),
    ],
)
def test_the_token_rate_goes_with_the_learning_rate(given: dict[str, float], expected: float | None) -> None:
    assert run_values(PresetName.WITH_DCI, ModelScale(768, 0.028), given).token_learning_rate == expected


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_word_embeddings_without_a_scale_are_refused_unless_no_rate_needs_them(std: float) -> None:
    scale = ModelScale(768, std)
    for given in ({}, {"learning_rate": 1e-3}, {"context_learning_rate": 1e-3}):
        with pytest.raises(UserInputError, match="word embeddings have the standard deviation .*set learning_rate and"):
            run_values(PresetName.WITH_DCI, scale, given)
    assert run_values(PresetName.WITH_DCI, scale, {"learning_rate": 1e-3, "context_learning_rate": 1e-3}).steps == 900


def test_the_last_bits_of_the_scale_make_no_other_run() -> None:
    one, two = (run_values(PresetName.WITH_DCI, ModelScale(768, std)) for std in (0.0139812345, 0.0139812346))
    assert one == two


def test_the_text_says_what_is_used_and_whose_it_is() -> None:
    def text(given: dict[str, Any], class_images: bool = True) -> str:
        return run_values(PresetName.WITH_DCI, SD1_SCALE, given).text(PresetName.WITH_DCI, class_images)

    assert text({}) == (
        "preset with_dci: M 1, L 1, S 3, 900 steps of 2 + 2 pictures, rates 6e-05 / 6e-05 / 6e-04 (K and V / V* / contexts), "
        "checkpoints every 150"
    )
    assert text({"steps": 20, "batch_size": 1}, class_images=False).startswith(
        "preset with_dci with steps, batch_size of your own: M 1, L 1, S 3, 20 steps of 1 picture, rates"
    )
    assert text(OWN) == (
        "values of your own: M 0, L 3, S 1, 7 steps of 3 + 3 pictures, rates 0 / 0 / 1e-02 (K and V / V* / contexts), no checkpoints on the way"
    )


def test_every_preset_says_in_one_line_what_it_is_for() -> None:
    assert set(PRESETS) == set(PresetName)
    assert all(preset.purpose and "\n" not in preset.purpose for preset in PRESETS.values())
