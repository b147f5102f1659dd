"""Training settings: their defaults and ranges."""

from __future__ import annotations

from typing import Any

import pytest
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.settings import TrainingMode, TrainingSettings


@pytest.mark.parametrize("mode", list(TrainingMode))
def test_modes_without_contexts_follow_the_template(mode: TrainingMode) -> None:
    scheme = TrainingSettings(mode=mode).prompt_scheme
    assert (scheme.prefix, scheme.suffix) == ((1, 1) if mode.learns_contexts else (3, 0))
    assert scheme.concept_vectors == 3


@pytest.mark.parametrize("mode", list(TrainingMode))
def test_no_mode_trains_k_without_v(mode: TrainingMode) -> None:
    """A concept file with one of the two is refused."""
    assert ("to_k" in mode.projections) == ("to_v" in mode.projections) == bool(mode.projections)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"token_learning_rate": 2.0}, "token_learning_rate must be between 0 and 1, but got 2.0"),
        ({"steps": 500, "warmup_steps": 500}, r"warmup_steps must be less than steps \(500\), but got 500"),
        ({"accumulation_steps": 0}, "accumulation_steps must be between 1 and 256, but got 0"),
        ({"max_gradient_norm": -1.0}, "max_gradient_norm must be between 0"),
        ({"min_snr_gamma": float("nan")}, "min_snr_gamma must be between 0 and 100, but got nan"),
        ({"noise_offset": 1.5}, "noise_offset must be between 0 and 1"),
        ({"ema_decay": 1.0}, "ema_decay must be between 0 and 0.99999, but got 1.0"),
        ({"rank": -1}, "rank must be between 0 and 1024, but got -1"),
        ({"mode": "lora"}, f"mode must be one of {', '.join(TrainingMode)}, but got 'lora'"),
        ({"schedule": "polynomial"}, "schedule must be one of constant, cosine, linear, but got 'polynomial'"),
        ({"optimizer": "sgd"}, "optimizer must be one of adamw, adamw_8bit"),
        ({"precision": "fp8"}, "precision must be one of auto, bf16, fp16, fp32"),
        ({"stop_after": 2}, "stop_after is 2, but evaluate_every is 0, so nothing would ever stop"),
    ],
)
def test_settings_outside_their_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        TrainingSettings(**values)


def test_the_default_settings_are_those_of_the_method() -> None:
    settings = TrainingSettings()
    assert (settings.steps, settings.batch_size, settings.learning_rate) == (900, 2, 6e-5)
    assert (settings.context_learning_rate, settings.flip, settings.scheme) == (6e-4, True, ICOScheme(1, 1, 3))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"steps": 0}, "steps must be between 1 and 100000, but got 0."),
        ({"steps": 100_001}, "steps must be between 1 and 100000, but got 100001."),
        ({"batch_size": 0}, "batch_size must be between 1 and 64, but got 0."),
        ({"batch_size": 65}, "batch_size must be between 1 and 64, but got 65."),
        (
            {"learning_rate": -1e-5},
            "learning_rate must be between 0 and 1, but got -1e-05. 6e-05 (context 0.0006) suits SD1.x",
        ),
        ({"learning_rate": 2.0}, "learning_rate must be between 0 and 1, but got 2.0."),
        ({"learning_rate": float("nan")}, "learning_rate must be between 0 and 1, but got nan."),
        ({"context_learning_rate": 1.5}, "context_learning_rate must be between 0 and 1, but got 1.5."),
    ],
)
def test_settings_outside_their_ranges_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError) as refusal:
        TrainingSettings(**wrong)
    assert message in str(refusal.value)
