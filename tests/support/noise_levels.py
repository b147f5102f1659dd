"""Noise levels of SD1.x as the host has them, in plain arithmetic."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def stable_diffusion_sigmas() -> Tensor:
    """σ of the 1000 timesteps of SD1.x, as in its published configuration ("scaled linear" betas)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = (1 - betas).cumprod(0)
    return ((1 - alpha_bar) / alpha_bar).sqrt()


SIGMAS = stable_diffusion_sigmas()


def sigma_at(timestep: float) -> float:
    """The host's σ between two timesteps: linear in the logarithm."""
    below = min(int(timestep), 998)
    share = timestep - below
    return math.exp((1 - share) * math.log(SIGMAS[below]) + share * math.log(SIGMAS[below + 1]))


def percent_to_sigma(percent: float) -> float:
    """The host's ``percent_to_sigma`` with its two special values."""
    if percent <= 0.0:
        return 999999999.9
    return 0.0 if percent >= 1.0 else sigma_at((1.0 - percent) * 999.0)
