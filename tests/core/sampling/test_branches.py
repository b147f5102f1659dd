"""The auxiliary branch outside the network: noise, guidance in ε, Euler steps and fine ones."""

from __future__ import annotations

import math

import pytest
import torch
from comfyui_dci.dci_core.sampling.branches import (
    auxiliary_noise,
    composite,
    contraction,
    denoised_from_epsilon,
    epsilon_from_denoised,
    euler_step,
    fine_sigmas,
    fine_step,
    stochastic_levels,
)
from noise_levels import SIGMAS, percent_to_sigma, sigma_at
from torch import Tensor


def concept_noise(seed: int = 0, batch: int = 4, size: int = 64) -> Tensor:
    return torch.randn(batch, 4, size, size, generator=torch.Generator().manual_seed(seed))


def test_the_same_seed_and_noise_draw_the_same_bits() -> None:
    noise = concept_noise()
    assert torch.equal(auxiliary_noise(noise, 7), auxiliary_noise(noise.clone(), 7))


def test_the_branches_start_from_different_noise() -> None:
    noise = concept_noise()
    assert not torch.isclose(auxiliary_noise(noise, 7), noise).float().mean() > 0.001


def test_another_seed_or_other_concept_noise_draws_other_noise() -> None:
    noise = concept_noise(batch=1)
    drawn = [auxiliary_noise(noise, seed) for seed in (0, 1, -1, 2**64 - 1)]
    drawn.append(auxiliary_noise(noise + 1e-3, 0))
    for first in range(len(drawn)):
        for second in range(first):
            correlation = torch.corrcoef(torch.stack([drawn[first].flatten(), drawn[second].flatten()]))[0, 1]
            assert abs(correlation) < 5 / math.sqrt(noise.numel())


def test_the_noise_is_standard_normal() -> None:
    drawn = auxiliary_noise(concept_noise(), 3).double().flatten()
    count = drawn.numel()  # 65536; five standard errors each
    assert abs(drawn.mean()) < 5 / math.sqrt(count)
    assert abs(drawn.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((drawn**3).mean()) < 5 * math.sqrt(15 / count)
    assert abs((drawn**4).mean() - 3) < 5 * math.sqrt(96 / count)
    expected = 0.5 * (1 + torch.erf(drawn.sort().values / math.sqrt(2)))
    observed = torch.arange(1, count + 1, dtype=torch.float64) / count
    assert (expected - observed).abs().max() < 2.2 / math.sqrt(count)  # Kolmogorov-Smirnov, p = 1e-4


def test_the_noise_is_uncorrelated_with_the_concepts_and_between_rows() -> None:
    noise = concept_noise()
    drawn = auxiliary_noise(noise, 3)
    rows = torch.cat([noise.flatten(1), drawn.flatten(1)])  # [8, 16384]
    correlations = torch.corrcoef(rows) - torch.eye(8)
    assert correlations.abs().max() < 5 / math.sqrt(rows.shape[1])


def test_a_row_of_a_batch_draws_the_same_as_that_row_alone() -> None:
    noise = concept_noise(size=8)
    drawn = auxiliary_noise(noise, 11)
    for row in range(4):
        assert torch.equal(auxiliary_noise(noise[row : row + 1], 11), drawn[row : row + 1])
    assert torch.equal(auxiliary_noise(noise.flip(0), 11), drawn.flip(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_noise_keeps_shape_and_type(dtype: torch.dtype) -> None:
    noise = concept_noise(size=8)[:, :, :, :5].to(dtype)
    drawn = auxiliary_noise(noise, 0)
    assert (drawn.shape, drawn.dtype, drawn.device) == (noise.shape, dtype, noise.device)


def test_a_view_of_the_noise_draws_the_same_as_its_copy() -> None:
    noise = concept_noise(size=8).transpose(2, 3)
    assert torch.equal(auxiliary_noise(noise, 5), auxiliary_noise(noise.contiguous(), 5))


def test_drawing_leaves_the_global_random_state_and_the_given_noise_alone() -> None:
    noise, state = concept_noise(size=8), torch.get_rng_state()
    before = noise.clone()
    auxiliary_noise(noise, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(noise, before)


def test_the_mix_of_seed_and_noise_never_changes() -> None:
    """Golden values: a saved workflow must give the same picture with the next version.

    The concept noise is written out, not drawn. The tolerance allows for torch's vectorised logarithm and cosine,
    which differ in the last bits between processors.
    """
    ramp = torch.arange(4 * 8 * 8, dtype=torch.float32).view(1, 4, 8, 8) / 256
    golden = {
        0: [2.193464, 0.914559, 1.480999, 0.208215],
        123456789: [1.150369, -0.788728, 1.703474, 0.515042],
    }
    for seed, values in golden.items():
        drawn = auxiliary_noise(ramp, seed)
        torch.testing.assert_close(drawn[0, 0, 0, :4], torch.tensor(values), atol=1e-5, rtol=0)


def test_epsilon_by_hand() -> None:
    x, denoised = torch.tensor([3.0, -1.0]), torch.tensor([1.0, 1.0])
    assert epsilon_from_denoised(x, denoised, 4.0).tolist() == [0.5, -0.5]


def test_denoised_from_epsilon_by_hand_and_back() -> None:
    x, epsilon = torch.tensor([3.0, -1.0]), torch.tensor([0.5, -0.5])
    denoised = denoised_from_epsilon(x, epsilon, 4.0)
    assert denoised.tolist() == [1.0, 1.0]
    assert torch.equal(epsilon_from_denoised(x, denoised, 4.0), epsilon)


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_sharing_guidance_shares_the_noise_prediction_not_the_image(scale: float) -> None:
    """Two latents: plain guidance on D_u' is D_a' = x_a - σ(ε_u + s(ε_a - ε_u)), ε_u from the concept's latent."""
    x_c, x_a, d_u, d_a = torch.randn(4, 1, 4, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    sigma = 3.0
    epsilon_u, epsilon_a = epsilon_from_denoised(x_c, d_u, sigma), epsilon_from_denoised(x_a, d_a, sigma)
    unconditional = denoised_from_epsilon(x_a, epsilon_u, sigma)
    actual = unconditional + scale * (d_a - unconditional)
    torch.testing.assert_close(actual, x_a - sigma * (epsilon_u + scale * (epsilon_a - epsilon_u)))
    assert scale == 1.0 or not torch.allclose(actual, d_u + scale * (d_a - d_u))


def test_an_euler_step_by_hand() -> None:
    """x = 5 at σ = 4, D = 1: slope 1; down to σ' = 1 gives 5 - 3 = 2; down to 0 gives D."""
    x, denoised = torch.tensor([5.0]), torch.tensor([1.0])
    assert euler_step(x, denoised, 4.0, 1.0).item() == 2.0
    assert euler_step(x, denoised, 4.0, 0.0).item() == 1.0
    assert euler_step(x, denoised, 4.0, 4.0).item() == 5.0


@pytest.mark.parametrize("alpha_bar, alpha_bar_next", [(0.0047, 0.02), (0.3, 0.45), (0.9, 1.0)])
def test_an_euler_step_is_ddim_without_noise(alpha_bar: float, alpha_bar_next: float) -> None:
    generator = torch.Generator().manual_seed(2)
    latent, epsilon = (torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    # DDIM, η = 0: x₀ = (x - √(1-ᾱ)ε)/√ᾱ and x' = √ᾱ'·x₀ + √(1-ᾱ')·ε
    clean = (latent - math.sqrt(1 - alpha_bar) * epsilon) / math.sqrt(alpha_bar)
    ddim = math.sqrt(alpha_bar_next) * clean + math.sqrt(1 - alpha_bar_next) * epsilon
    # the same in noise levels: x_σ = x/√ᾱ, σ = √((1-ᾱ)/ᾱ)
    sigma, sigma_next = (math.sqrt((1 - a) / a) for a in (alpha_bar, alpha_bar_next))
    stepped = euler_step(latent / math.sqrt(alpha_bar), clean, sigma, sigma_next)
    torch.testing.assert_close(stepped * math.sqrt(alpha_bar_next), ddim)


def test_noise_levels_may_differ_between_rows() -> None:
    x, denoised = torch.randn(2, 2, 4, 3, 3).double()
    sigma = torch.tensor([2.0, 5.0], dtype=torch.float64).view(2, 1, 1, 1)
    together = euler_step(x, denoised, sigma, sigma / 2)
    apart = torch.cat([euler_step(x[i : i + 1], denoised[i : i + 1], 2.0 + 3 * i, 1.0 + 1.5 * i) for i in range(2)])
    torch.testing.assert_close(together, apart)


def test_composite_takes_the_inside_where_the_mask_is_one() -> None:
    inside, outside = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([5.0, 5.0, 5.0])
    assert composite(inside, outside, torch.tensor([1.0, 0.0, 0.25])).tolist() == [1.0, 5.0, 4.0]


def test_composite_without_a_mask_is_all_inside() -> None:
    inside = torch.randn(1, 4, 2, 2)
    assert composite(inside, torch.full_like(inside, float("nan")), None) is inside


def test_a_mask_of_one_channel_covers_all_channels_and_rows() -> None:
    inside, outside = torch.zeros(2, 4, 2, 2), torch.ones(2, 4, 2, 2)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert torch.equal(composite(inside, outside, mask), (1 - mask).expand(2, 4, 2, 2))


def test_the_contraction_of_shared_guidance_by_hand() -> None:
    assert contraction(0.735, 7.0) == pytest.approx((1 - 7 * 0.265) / 0.735) == pytest.approx(-1.1633, abs=1e-4)
    assert contraction(1.0, 7.0) == 1.0
    assert contraction(0.9, 1.0) == pytest.approx(1.0)  # at cfg 1 both latents keep their distance


@pytest.mark.parametrize("guidance", [1.0, 5.0, 7.0, 30.0])
def test_fine_steps_contract_for_every_usual_guidance(guidance: float) -> None:
    sigmas = fine_sigmas(SIGMAS[-1].item(), sigma_at(946.4))
    ratios = [after / before for before, after in zip(sigmas, sigmas[1:])]
    assert all(0.0 <= contraction(ratio, guidance) <= 1.0 + 1e-12 for ratio in ratios)


def test_no_fine_step_overshoots_up_to_a_guidance_of_22() -> None:
    for thousandths in range(1, 700):
        sigmas = fine_sigmas(14.6, 14.6 * math.exp(-thousandths / 1000))
        assert 0.0 <= contraction(sigmas[1] / sigmas[0], 22.0) <= 1.0


def test_fine_steps_are_as_long_as_those_of_two_hundred() -> None:
    two_hundred = [sigma_at(t) for t in torch.linspace(999, 0, 200, dtype=torch.float64).tolist()]
    active = [sigma for sigma in two_hundred if sigma > percent_to_sigma(0.3)]
    assert all(len(fine_sigmas(a, b)) == 2 for a, b in zip(active, active[1:]))  # nothing between
    levels = fine_sigmas(14.6, 10.7)
    assert (levels[0], levels[-1], len(levels)) == (14.6, 10.7, 11)  # ln(14.6 / 10.7) / 0.03 = 10.4
    assert [b / a for a, b in zip(levels, levels[1:])] == pytest.approx([(10.7 / 14.6) ** 0.1] * 10)
    assert fine_sigmas(3.0, 3.0) == [3.0, 3.0]
    assert fine_sigmas(10.7, 14.6) == pytest.approx(levels[::-1])


@pytest.mark.parametrize("guidance", [1.5, 7.0])
@pytest.mark.parametrize("levels", [(14.6, 10.7), (10.7, 10.65), (6.0, 9.0)])
def test_fine_steps_in_closed_form_are_the_steps_one_by_one(guidance: float, levels: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(3)
    x, concept, auxiliary, unconditional, guided = (
        torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64) for _ in range(5)
    )
    fine = fine_sigmas(*levels)
    x_a, x_c = 10.0 * x, 10.0 * concept
    for sigma, following in zip(fine, fine[1:]):
        epsilon_u = (x_c - unconditional) / sigma
        epsilon = epsilon_u + guidance * ((x_a - auxiliary) / sigma - epsilon_u)  # METHOD section 3.3
        x_a = x_a + (following - sigma) * epsilon
        x_c = x_c + (following - sigma) * (x_c - guided) / sigma
    found = fine_step(10.0 * x, 10.0 * concept, auxiliary, unconditional, guided, guidance, *levels)
    torch.testing.assert_close(found, x_a, rtol=1e-12, atol=1e-12)


def test_stochastic_levels_by_hand() -> None:
    assert stochastic_levels(10.0, 6.0, 0.0) == (6.0, 0.0)
    down, up = stochastic_levels(10.0, 6.0, 1.0)  # 6·√(1 - 0.36) = 4.8, √(36 - 23.04) = 3.6
    assert (down, up) == (pytest.approx(3.6), pytest.approx(4.8))
    down, up = stochastic_levels(10.0, 6.0, 0.5)
    assert (down**2 + up**2, up) == (pytest.approx(36.0), pytest.approx(2.4))
    assert stochastic_levels(6.0, 10.0, 1.0) == (10.0, 0.0)


def test_each_draw_of_auxiliary_noise_is_its_own() -> None:
    noise = concept_noise()
    first, second = auxiliary_noise(noise, 5), auxiliary_noise(noise, 5, draw=1)
    assert torch.equal(second, auxiliary_noise(noise, 5, draw=1))
    correlation = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    assert abs(correlation) < 0.02
