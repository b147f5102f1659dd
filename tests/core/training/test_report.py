"""What a run says of itself, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import ConceptInfo
from comfyui_dci.dci_core.training.presets import SD1_SCALE, PresetName, run_values
from comfyui_dci.dci_core.training.report import end_report, learned_share, relative_change, start_text
from comfyui_dci.dci_core.training.settings import TrainingSettings


def info(change: float | None = 0.1, **history: Any) -> ConceptInfo:
    told = history if change is None else {"key_value_change": change, **history}
    settings = {"learning_rate": 6e-5, "token_learning_rate": None, "context_learning_rate": 6e-4}
    return ConceptInfo("sd1", "cat", "V*", 1, 1, 3, 900, 0, "", settings, history=told)


def losses(loss: float, without: float | None = None) -> dict[str, float]:
    return {"loss": loss} if without is None else {"loss": loss, "loss_without_contexts": without}


def test_the_change_of_keys_and_values_by_hand() -> None:
    changes = {"a.to_k": torch.tensor([[3.0, 0.0]]), "a.to_v": torch.tensor([[0.0, 4.0]]), "a.to_q": torch.ones(9, 9)}
    # √(3² + 4²) / √(6² + 8²)
    assert relative_change(changes, {"a.to_k": 6.0, "a.to_v": 8.0}) == pytest.approx(0.5)
    assert relative_change({"a.to_k": torch.zeros(2, 2)}, {"a.to_k": 6.0}) == 0.0
    assert relative_change({}, {}) is None and relative_change(changes, {"a.to_k": 0.0}) is None


def test_without_the_rates_of_the_run_the_way_out_is_told_without_numbers() -> None:
    full = info(start=losses(0.20, 0.22), end=losses(0.12, 0.20))
    assert "Set context_learning_rate to 6e-05 (now 0.0006)" in end_report(full)[1][0]
    for settings in ({}, {"context_learning_rate": "high", "learning_rate": None}):
        (warning,) = end_report(replace(full, settings=settings))[1]
        assert "V* has only 20% of what was learned" in warning
        assert warning.endswith(
            "a lower context_learning_rate, fewer context vectors (now 2), or a higher learning_rate."
        )


@pytest.mark.parametrize(
    "start, now, expected",
    [
        (losses(0.20, 0.22), losses(0.12, 0.12), 1.0),  # the contexts have nothing that V* lacks
        (losses(0.20, 0.22), losses(0.12, 0.17), 0.5),  # 0.05 of 0.10
        (losses(0.20, 0.22), losses(0.12, 0.22), 0.0),
        (losses(0.20, 0.22), losses(0.12, 0.24), -0.2),  # V* alone got worse
        (losses(0.20, 0.20), losses(0.197, 0.198), None),  # 1.5 % were learned: too little to share
        (losses(0.20, 0.20), losses(0.195, 0.20), 0.0),
        (losses(0.20, 0.20), losses(0.25, 0.25), None),
        (losses(0.20, 0.20), losses(float("nan"), 0.1), None),
        (losses(0.20), losses(0.1), None),
        (losses(0.20, 0.22), losses(0.1), None),
    ],
)
def test_the_share_by_hand(start: dict[str, float], now: dict[str, float], expected: float | None) -> None:
    assert learned_share(start, now) == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_the_report_says_all_three_numbers() -> None:
    said, warnings = end_report(info(0.1137, start=losses(0.2, 0.22), end=losses(0.12, 0.13)))
    assert said == (
        "900 steps; K and V moved by 0.114 of their size (0.04 … 0.12 is where the paper's figures lie); loss on fixed noise 0.2000 → "
        '0.1200; of "V* cat" alone 0.2200 → 0.1300; V* has 90% of what was learned.'
    )
    assert warnings == []


def test_what_a_history_lacks_is_left_out() -> None:
    assert end_report(info(None)) == ("900 steps.", [])
    assert (
        end_report(info(None, start=losses(0.2), end=losses(0.1)))[0]
        == "900 steps; loss on fixed noise 0.2000 → 0.1000."
    )
    assert "V* has" not in end_report(info(start=losses(0.2, 0.2), end=losses(0.2, 0.2)))[0]


@pytest.mark.parametrize(
    "change, message",
    [
        (0.0, "hardly moved (below 0.02)"),
        (0.0199, "more steps or a higher learning_rate"),
        (0.02, None),
        (0.4, None),
        (0.401, "moved very far (above 0.4)"),
        (3.0, "an earlier checkpoint, fewer steps or a lower learning_rate"),
    ],
)
def test_only_a_change_far_outside_is_warned_of(change: float, message: str | None) -> None:
    warnings = end_report(info(change))[1]
    assert len(warnings) == (message is not None) and all(str(message) in warning for warning in warnings)


@pytest.mark.parametrize(
    "rates, lower",
    [
        ({}, "6e-05 (now 0.0006)"),  # the rate of V*
        ({"token_learning_rate": 1e-4}, "0.0001 (now 0.0006)"),
        ({"context_learning_rate": 6e-5}, "2e-05 (now 6e-05)"),  # already there: a third
        ({"learning_rate": 0.0}, "0.0002 (now 0.0006)"),
    ],
)
def test_a_low_share_is_warned_of_with_what_to_do(rates: dict[str, float], lower: str) -> None:
    given = info(start=losses(0.2, 0.2), end=losses(0.1, 0.16))
    given.settings.update(rates)
    (warning,) = end_report(given)[1]
    assert "V* has only 40% of what was learned; 60% or more is good" in warning
    assert f"Set context_learning_rate to {lower}" in warning
    assert "fewer context vectors (now 2), or a higher learning_rate" in warning
    assert end_report(info(start=losses(0.2, 0.2), end=losses(0.1, 0.139)))[1] == []


def test_missing_class_images_are_said_where_keys_and_values_are_trained() -> None:
    values = run_values(PresetName.ALONE, SD1_SCALE)

    def lines(mode: str, class_images: int) -> list[str]:
        settings = TrainingSettings(**values.settings, mode=mode)  # the name of a mode is one too
        return start_text(values, PresetName.ALONE, settings, class_images).split("\n")

    first, second = lines("ico", 0)
    assert first == values.text(PresetName.ALONE, False) and "steps of 2 pictures" in first
    assert second.startswith("No class images: ") and second.endswith("Connect DCI Class Images.")
    assert lines("ico", 50) == [values.text(PresetName.ALONE, True)]
    (alone,) = lines("textual_inversion", 0)
    assert "preset alone: S 2, 450 steps of 2 pictures, rate 6e-05 (V*), " in alone
    assert "S 2, 450 steps of 2 + 2 pictures, rates 6e-05 / 6e-05 (K and V / V*), " in lines("custom_diffusion", 50)[0]
