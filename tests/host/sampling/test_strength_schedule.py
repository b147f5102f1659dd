"""λ by map size and time reaches exactly the layers and calls it names; a neutral schedule changes no bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM
from comfyui_dci.dci_core.sampling.masks import BlendMasks
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.dci_core.sampling.strength import StrengthSchedule
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from scenes import ksample, scene

SCALES = {"full_maps": 16, "half_maps": 8, "quarter_maps": 4, "eighth_maps": 2}  # at a latent of 16


def sampled(strength: float = 0.5, active_fraction: float = 0.6, **offsets: float) -> tuple[torch.Tensor, BlendMasks]:
    s = scene()
    settings = DCISettings(strength, active_fraction, strength_schedule=StrengthSchedule(**offsets))
    patched, masks = apply_dci(s.model, settings)
    return ksample(patched, s.positive, s.negative, steps=5, size=16), masks.latest


def first_call(masks: BlendMasks) -> dict[int, torch.Tensor]:
    return {size[0]: grid for size, grid in masks.calls[0].maps.items()}


def test_a_neutral_schedule_changes_no_bit() -> None:
    s = scene()
    patched, _ = apply_dci(s.model, DCISettings(0.5, 0.6))
    image = ksample(patched, s.positive, s.negative, steps=5, size=16)
    assert torch.equal(sampled(full_maps=0.0, at_start=0.0, at_end=0.0)[0], image)
    assert torch.equal(sampled(0.0, full_maps=0.5, half_maps=0.5, quarter_maps=0.5, eighth_maps=0.5)[0], image)
    assert torch.equal(sampled(0.25, at_start=0.25, at_end=0.25)[0], image)


@pytest.mark.parametrize("name", SCALES)
def test_an_offset_acts_on_the_maps_of_its_size(name: str) -> None:
    image, masks = sampled(**{name: 1.0})
    plain_image, plain = sampled()
    assert not torch.equal(image, plain_image)
    maps, plain_maps = first_call(masks), first_call(plain)
    assert set(maps) == set(SCALES.values())
    assert maps[SCALES[name]].mean() > plain_maps[SCALES[name]].mean()


def strengths_used(monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[tuple[int, float]]:
    """Return (tokens of the map, λ) of every blended layer, in order."""
    import comfyui_dci.nodes.host.sampling.attention as attention

    used: list[tuple[int, float]] = []
    real = attention.auxiliary_weight

    def overheard(s_c: torch.Tensor, s_a: torch.Tensor, strength: float) -> torch.Tensor:
        used.append((s_c.shape[-1], strength))
        return real(s_c, s_a, strength)

    monkeypatch.setattr(attention, "auxiliary_weight", overheard)
    sampled(**options)
    return used


def test_every_layer_gets_the_strength_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    used = strengths_used(monkeypatch, strength=0.5, full_maps=1.0, half_maps=2.0, quarter_maps=3.0, eighth_maps=4.0)
    assert set(used) == {(256, 1.5), (64, 2.5), (16, 3.5), (4, 4.5)}


def test_strength_moves_from_start_to_end_over_the_active_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    used = strengths_used(monkeypatch, strength=0.0, at_start=1.0, at_end=-1.0)
    by_call = list(dict.fromkeys(strength for _, strength in used))
    timesteps = [999, 749.25, 499.5]  # of the schedule "normal"; active while t > 999 · 0.4
    expected = [1 - 2 * (999 - t) / (999 - 400) for t in timesteps]
    assert by_call == pytest.approx(expected, abs=0.01)
    assert len(used) == 3 * 16


def test_time_passes_also_where_the_end_of_the_run_has_no_timestep() -> None:
    """Continuous EDM's timestep is a logarithm of the noise level, which is 0 at the end of a run that is active throughout."""
    s = scene()
    model = ModelSamplingContinuousEDM().patch(s.model, "v_prediction", 14.6, 0.03)[0]

    def image(at_end: float) -> torch.Tensor:
        settings = DCISettings(0.5, 1.0, strength_schedule=StrengthSchedule(at_end=at_end))
        return ksample(apply_dci(model, settings)[0], s.positive, s.negative, steps=4)

    assert not torch.equal(image(2.0), image(-2.0))
