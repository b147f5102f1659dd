"""Where the auxiliary branch ends: in timesteps, for full runs, for image-to-image, and at the last bits of a boundary."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from comfyui_dci.dci_core.sampling.branches import is_active, sigma_at_end
from noise_levels import SIGMAS, percent_to_sigma, sigma_at


def test_a_full_run_ends_at_timestep_849_15() -> None:
    end = sigma_at_end([SIGMAS[-1].item(), sigma_at(946.4)], 0.15, percent_to_sigma)
    assert end == pytest.approx(sigma_at(849.15), rel=1e-12)
    assert end == pytest.approx(percent_to_sigma(0.15), rel=1e-12)
    assert SIGMAS[849] < end < SIGMAS[850]


@pytest.mark.parametrize("start, fraction, end", [(500.0, 0.15, 425.0), (750.3, 0.4, 450.18), (40.0, 0.5, 20.0)])
def test_image_to_image_keeps_its_share_of_timesteps(start: float, fraction: float, end: float) -> None:
    # sixty halvings find the start to 1e-16 of the progress, that is 1e-13 timesteps
    assert sigma_at_end([sigma_at(start), sigma_at(start * 0.9)], fraction, percent_to_sigma) == pytest.approx(
        sigma_at(end), rel=1e-9
    )


@pytest.mark.parametrize("start", [999.0, 500.0])
def test_a_share_of_zero_has_no_active_step(start: float) -> None:
    assert sigma_at_end([sigma_at(start), sigma_at(start * 0.9)], 0.0, percent_to_sigma) == math.inf


@pytest.mark.parametrize("start", [999.0, 500.0])
def test_a_share_of_one_is_active_to_the_last_step(start: float) -> None:
    assert sigma_at_end([sigma_at(start), sigma_at(start * 0.9)], 1.0, percent_to_sigma) < SIGMAS[0]


def test_a_first_sigma_above_the_models_counts_as_a_full_run() -> None:
    assert sigma_at_end([80.0, sigma_at(946.4)], 0.15, percent_to_sigma) == pytest.approx(sigma_at(849.15), rel=1e-12)


@pytest.mark.parametrize("start", [999.0, 600.0])
def test_a_step_on_the_boundary_is_not_active_whatever_its_last_bits(start: float) -> None:
    end = sigma_at_end([sigma_at(start), sigma_at(start * 0.9)], 0.4, percent_to_sigma)
    rounded = torch.tensor(end)  # float32
    others = [torch.nextafter(rounded, torch.tensor(bound)).item() for bound in (0.0, 99.0)]
    assert not any(is_active(sigma, end) for sigma in (end, rounded.item(), *others))
    assert is_active(end * 1.0001, end) and not is_active(end * 0.9999, end)
    assert not is_active(1e9, math.inf)


@pytest.mark.parametrize("start", [999.0, 600.0])
def test_a_larger_share_ends_at_less_noise(start: float) -> None:
    ends = [
        sigma_at_end([sigma_at(start), sigma_at(start * 0.9)], share, percent_to_sigma)
        for share in (0.05, 0.15, 0.3, 0.8, 1.0)
    ]
    assert ends == sorted(ends, reverse=True)
    assert len(set(ends)) == len(ends)
    assert ends[0] < sigma_at(start)


def normal_schedule(steps: int) -> list[float]:
    return [sigma_at(t) for t in torch.linspace(999, 0, steps, dtype=torch.float64).tolist()]


def karras_schedule(steps: int) -> list[float]:
    low, high = SIGMAS[0].item() ** (1 / 7), SIGMAS[-1].item() ** (1 / 7)
    return [(high + i / (steps - 1) * (low - high)) ** 7 for i in range(steps)]


@pytest.mark.parametrize("schedule, active", [(normal_schedule, 3), (karras_schedule, 4)])
def test_twenty_steps_have_as_many_active_ones_as_documented(
    schedule: Callable[[int], list[float]], active: int
) -> None:
    sigmas = schedule(20)
    end = sigma_at_end(sigmas, 0.15, percent_to_sigma)
    assert sum(sigma > end for sigma in sigmas) == active


@pytest.mark.parametrize("steps, active", [(50, 7), (20, 3), (30, 5), (10, 1)])
def test_a_full_run_that_begins_below_the_range_is_counted_from_the_range(steps: int, active: int) -> None:
    """The host's ddim_uniform: t = 1, 1 + ss, …; the published code has t > 1000·(1 - T_a), 7 calls of 50."""
    stride = 1000 // steps
    timesteps = list(range(1, 1000, stride))[::-1]
    sigmas = [sigma_at(float(t)) for t in timesteps]
    end = sigma_at_end(sigmas, 0.15, percent_to_sigma)
    assert end == pytest.approx(percent_to_sigma(0.15), rel=1e-9)
    assert sum(is_active(sigma, end) for sigma in sigmas) == active == sum(t > 850 for t in timesteps)


def test_one_step_less_than_a_full_run_is_image_to_image() -> None:
    """``normal`` with denoise 0.95: 21 steps without the first."""
    sigmas = normal_schedule(21)[1:]
    end = sigma_at_end(sigmas, 0.15, percent_to_sigma)
    assert end == pytest.approx(sigma_at(949.05 * 0.85), rel=1e-9)


@pytest.mark.parametrize("steps, dropped", [(20, 1), (30, 1), (40, 2)])
def test_steps_that_grow_are_not_taken_for_a_full_run(steps: int, dropped: int) -> None:
    """Karras without its first steps: one more step of the first one's length would pass the range, but it grew on the way."""
    sigmas = karras_schedule(steps)[dropped:]
    start = next(t / 1e3 for t in range(999_000, 0, -1) if sigma_at(t / 1e3) <= sigmas[0])
    assert sigma_at_end(sigmas, 0.2, percent_to_sigma) == pytest.approx(sigma_at(start * 0.8), rel=1e-4)


def test_a_schedule_of_one_level_has_an_end() -> None:
    assert sigma_at_end([sigma_at(500.0)], 0.2, percent_to_sigma) == pytest.approx(sigma_at(400.0), rel=1e-9)


def test_a_full_run_keeps_an_active_step_however_few_it_has() -> None:
    sigmas = [sigma_at(float(t)) for t in (751, 501, 251, 1)]  # ddim_uniform, 4 steps: all below 849.15
    end = sigma_at_end(sigmas, 0.15, percent_to_sigma)
    assert end == pytest.approx(sigma_at(751 * 0.85), rel=1e-9)
    assert sum(is_active(sigma, end) for sigma in sigmas) == 1


def test_a_last_step_to_zero_tells_nothing_about_the_range() -> None:
    end = sigma_at_end([sigma_at(700.0), 0.0], 0.5, percent_to_sigma)
    assert end == pytest.approx(sigma_at(350.0), rel=1e-9)
