"""The training objective (eq. 1): hand numbers, and x₀ recovered from either kind of target."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.prediction import Prediction
from comfyui_dci.dci_core.training.diffusion import denoising_loss, noised_latents, training_target


def test_noising_and_targets_by_hand() -> None:
    """σ = 3/4 gives √ᾱ = 4/5 and √(1-ᾱ) = 3/5: with x₀ = 1 and ε = 2, x_t = 0.8 + 1.2 and v = 1.6 - 0.6."""
    latents = torch.full((1, 1, 1, 1), 1.0, dtype=torch.float64)
    noise = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    sigma = torch.tensor([0.75], dtype=torch.float64)
    assert noised_latents(latents, noise, sigma).item() == pytest.approx(2.0)
    assert training_target(Prediction.EPSILON, latents, noise, sigma).item() == 2.0
    assert training_target(Prediction.V, latents, noise, sigma).item() == pytest.approx(1.0)


def test_no_noise_level_leaves_the_latents_alone() -> None:
    latents, noise = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    assert torch.equal(noised_latents(latents, noise, torch.zeros(2)), latents)


def test_every_image_has_its_own_noise_level() -> None:
    latents, noise = torch.randn(3, 4, 2, 2).double(), torch.randn(3, 4, 2, 2).double()
    sigma = torch.tensor([0.1, 1.0, 14.6], dtype=torch.float64)
    for make in (noised_latents, lambda *given: training_target(Prediction.V, *given)):
        together = make(latents, noise, sigma)
        apart = torch.cat([make(latents[i : i + 1], noise[i : i + 1], sigma[i : i + 1]) for i in range(3)])
        assert torch.equal(together, apart)


def test_the_noised_latents_keep_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(2, 4, 128, 128, generator=generator) for _ in range(2))
    noisy = noised_latents(latents, noise, torch.tensor([0.5, 5.0]))
    # 65536 values per image: the standard deviation of a sample variance is √(2/65536) = 0.0055
    assert noisy.var(dim=(1, 2, 3)).tolist() == pytest.approx([1.0, 1.0], abs=0.025)


@pytest.mark.parametrize("level", [0.03, 1.0, 14.6])
def test_both_targets_recover_the_same_clean_image(level: float) -> None:
    generator = torch.Generator().manual_seed(1)
    latents, noise = (torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    sigma = torch.full((2,), level, dtype=torch.float64)
    noisy = noised_latents(latents, noise, sigma)
    signal, rest = 1 / (1 + level**2) ** 0.5, level / (1 + level**2) ** 0.5  # √ᾱ and √(1-ᾱ)
    epsilon = training_target(Prediction.EPSILON, latents, noise, sigma)
    velocity = training_target(Prediction.V, latents, noise, sigma)
    torch.testing.assert_close((noisy - rest * epsilon) / signal, latents)
    torch.testing.assert_close(signal * noisy - rest * velocity, latents)
    torch.testing.assert_close(rest * noisy + signal * velocity, noise)


def test_the_loss_is_the_mean_squared_error_over_everything_by_hand() -> None:
    predicted = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
    target = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 8.0]]]])
    assert denoising_loss(predicted, target).item() == (0 + 4 + 9 + 16) / 4


@pytest.mark.parametrize("target_type", [torch.float16, torch.bfloat16, torch.float32])
def test_the_loss_is_computed_in_float32_whatever_the_model_predicts_in(target_type: torch.dtype) -> None:
    """300² is beyond float16, so a loss in half precision would be infinite."""
    predicted = torch.full((1, 4, 2, 2), 300.0).to(target_type)
    target = torch.zeros(1, 4, 2, 2, dtype=target_type)
    loss = denoising_loss(predicted, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(300.0**2, rel=1e-3)
