"""DCISettings refuses what it cannot run, in the words the user sees."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.settings import AuxiliarySteps, Blend, DCISettings, Layers, MaskPreset
from comfyui_dci.dci_core.sampling.strength import StrengthSchedule


def test_the_defaults_are_those_of_the_design_page() -> None:
    settings = DCISettings()
    assert settings.injection_strength == 0.0
    assert settings.active_fraction == 0.2
    assert settings.share_guidance
    assert not settings.share_noise
    assert (settings.mask_preset, settings.blend, settings.layers) == (MaskPreset.CALIBRATED, Blend.MASKS, Layers.ALL)
    assert (settings.auxiliary_steps, settings.auxiliary_eta) == (AuxiliarySteps.FINE, 0.0)
    assert settings.strength_schedule == StrengthSchedule(0, 0, 0, 0, 0, 0)
    assert settings.auxiliary_mask is None
    assert settings.forced_auxiliary_weight is None


def test_every_field_is_kept_as_given() -> None:
    given = {
        "injection_strength": -1.5,
        "active_fraction": 0.4,
        "share_guidance": False,
        "mask_preset": MaskPreset.PAPER,
        "blend": Blend.SUM,
        "layers": Layers.LAST,
        "share_noise": True,
        "auxiliary_steps": AuxiliarySteps.SINGLE,
        "auxiliary_eta": 0.5,
        "strength_schedule": StrengthSchedule(eighth_maps=1.0, at_end=-1.0),
        "auxiliary_mask": torch.ones(1, 4, 4),
        "forced_auxiliary_weight": 0.25,
    }
    settings = DCISettings(**given)
    kept = {field.name: getattr(settings, field.name) for field in fields(DCISettings)}
    assert torch.equal(kept.pop("auxiliary_mask"), given.pop("auxiliary_mask")) and kept == given


def test_choices_may_be_given_as_their_text() -> None:
    settings = DCISettings(mask_preset="resolution_normalized", blend="mean", layers="last")
    assert settings.mask_preset is MaskPreset.RESOLUTION_NORMALIZED
    assert settings.blend is Blend.MEAN
    assert settings.layers is Layers.LAST


@pytest.mark.parametrize("active_fraction", [0.0, 1.0])
@pytest.mark.parametrize("weight", [0.0, 1.0, None])
@pytest.mark.parametrize("injection_strength", [-1000.0, 1000.0])
def test_the_ends_of_every_range_are_allowed(
    active_fraction: float, weight: float | None, injection_strength: float
) -> None:
    settings = DCISettings(injection_strength, active_fraction, forced_auxiliary_weight=weight)
    assert (settings.active_fraction, settings.forced_auxiliary_weight) == (active_fraction, weight)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            {"injection_strength": float("nan")},
            "injection_strength must be a finite number, but got nan. 0 is the middle of",
        ),
        (
            {"injection_strength": float("inf")},
            "injection_strength must be a finite number, but got inf. 0 is the middle of",
        ),
        (
            {"active_fraction": -0.01},
            "active_fraction must be between 0 and 1, but got -0.01. 0 is plain sampling, bit for bit; the paper uses 0.15",
        ),
        (
            {"active_fraction": 15},
            "active_fraction must be between 0 and 1, but got 15. 0 is plain sampling, bit for bit; the paper uses 0.15",
        ),
        ({"active_fraction": float("nan")}, "active_fraction must be between 0 and 1, but got nan"),
        ({"forced_auxiliary_weight": 1.01}, "forced_auxiliary_weight must be between 0 and 1, but got 1.01"),
        ({"forced_auxiliary_weight": -0.5}, "forced_auxiliary_weight must be between 0 and 1, but got -0.5"),
        (
            {"mask_preset": "exact"},
            f"mask_preset must be one of {', '.join(MaskPreset)}, but got 'exact'",
        ),
        ({"auxiliary_steps": "long"}, "auxiliary_steps must be one of fine, single, but got 'long'"),
        ({"auxiliary_eta": 1.5}, "auxiliary_eta must be between 0 and 1, but got 1.5. 0 is without new noise."),
        ({"auxiliary_eta": float("nan")}, "auxiliary_eta must be between 0 and 1, but got nan"),
        ({"blend": "max"}, "blend must be one of masks, sum, mean, but got 'max'"),
        ({"auxiliary_mask": torch.full((4, 4), 2.0)}, "auxiliary_mask holds values from 2 to 2; between 0"),
        ({"layers": "first"}, "layers must be one of all, last, but got 'first'"),
    ],
)
def test_a_value_outside_its_range_is_named_with_what_is_allowed(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserInputError) as refusal:
        DCISettings(**wrong)
    assert message in str(refusal.value)


def test_settings_cannot_be_changed_after_they_were_checked() -> None:
    settings = DCISettings()
    with pytest.raises(FrozenInstanceError):
        settings.active_fraction = 7.0
