"""The denoising loss of the demo model: which timesteps are drawn, and which latent cells count more."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from demo_world.denoiser import TIMESTEPS, signal_and_noise

SNR_CAP = 5.0
FOREGROUND_GAIN = 2.0


def timestep_shares() -> Tensor:
    """Probability of each timestep, [1000].

    Instead of weighting the loss, timesteps are drawn in proportion to the weight, which is less noisy. The weight is
    min-SNR for the fine-detail end (Hang et al. 2023: min(SNR, 5) / SNR) and rises with the noise level for the
    coarse end, where a small model must learn which object and which place; both ends keep a floor.
    """
    signal, noise = signal_and_noise()
    sigma = noise / signal
    detail = torch.clamp(SNR_CAP * sigma.square(), max=1.0)
    coarse = torch.sqrt(1.0 + sigma.square()).clamp(max=3.0)
    shares = (detail * coarse).clamp(min=0.15)
    return shares / shares.sum()


def cell_weights(coverage: Tensor, timestep: Tensor) -> Tensor:
    """Weights of the latent cells, [B, 1, h, w], mean one: cells with objects count more than textures.

    The emphasis fades at high noise, where it would bias the model: there it cannot see yet where the object is, and
    a loss weighted by the truth would pull every place towards "object".

    Args:
        coverage: [B, h, w], uint8.
        timestep: [B], 0 ... 999, on the same device.
    """
    signal, noise = signal_and_noise(timestep.device)
    sigma = (noise / signal)[timestep]
    gain = FOREGROUND_GAIN / (1.0 + (sigma / 1.5).square())
    weights = 1.0 + gain[:, None, None, None] * coverage[:, None].float() / 255.0
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True)


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Timesteps by `timestep_shares`, stratified so that each batch covers the whole range. [count], int64

    Args:
        count: how many.
        generator: of all chances; its device is that of the result.
    """
    device = generator.device
    places = (torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)) / count
    drawn = torch.searchsorted(_edges(device), places).clamp(max=TIMESTEPS - 1)
    return drawn[torch.randperm(count, generator=generator, device=device)]


@cache
def _edges(device: torch.device) -> Tensor:
    """The cumulated shares, [1000]."""
    return timestep_shares().cumsum(0).to(device)
