"""The auxiliary branch outside the network: its noise, its guidance, its steps, its end."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import torch
from torch import Tensor

_NOISE_DOMAIN = b"dci auxiliary noise 1"
_BOUNDARY_SLACK = 1e-5  # relative; GPUs and CPUs compute the same noise level with other last bits


def auxiliary_noise(noise: Tensor, seed: int) -> Tensor:
    """Draw the auxiliary branch's starting noise, independent of the concept branch's.

    Every row has its own generator, seeded by a fixed mix (SHA-256) of the run's seed and that row's
    concept noise. A sampler is never told which rows of a batch it is given; the row's own noise tells,
    so row 2 of a batch draws the same noise as the same image generated alone.

    Args:
        noise: the concept branch's noise, [B, D, h, w], any device.
        seed: the run's seed, any integer.

    Returns:
        Standard normal noise of the same shape, dtype and device.
    """
    rows = []
    for row in noise.detach().to("cpu", torch.float32):
        mix = hashlib.sha256(_NOISE_DOMAIN + str(int(seed)).encode() + b"/" + row.contiguous().numpy().tobytes())
        row_seed = struct.unpack("<q", mix.digest()[:8])[0]
        generator = torch.Generator(device="cpu").manual_seed(row_seed)
        rows.append(torch.randn(row.shape, generator=generator))
    return torch.stack(rows).to(noise)


def epsilon_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor | float) -> Tensor:
    """Return ε = (x - D) / σ, the noise prediction behind a denoised image."""
    return (x - denoised) / sigma


def denoised_from_epsilon(x: Tensor, epsilon: Tensor, sigma: Tensor | float) -> Tensor:
    """Return D = x - σ·ε, the denoised image behind a noise prediction.

    Shared guidance hands ε_u of the concept branch to the auxiliary latent this way: D_u' = x_a - σ·ε_u. The guider's own
    formula on D_u' and D_a is then D_a' = x_a - σ·(ε_u + s(ε_a - ε_u)) (METHOD section 3.3).
    """
    return x - sigma * epsilon


def euler_step(x: Tensor, denoised: Tensor, sigma: Tensor | float, sigma_next: Tensor | float) -> Tensor:
    """Move a latent from σ to σ' along its ODE, first order; equal to DDIM with η = 0.

    Args:
        x: latent at σ, [B, D, h, w].
        denoised: its denoised image at σ.
        sigma: σ > 0, broadcastable to ``x``.
        sigma_next: σ', same; σ' = σ leaves ``x`` unchanged.
    """
    derivative = (x - denoised) / sigma
    return x + derivative * (sigma_next - sigma)


def composite(inside: Tensor, outside: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``inside`` where the inpainting mask is 1 and ``outside`` where it is 0; None is all inside."""
    return inside if mask is None else inside * mask + outside * (1.0 - mask)


def sigma_at_end(
    first_sigma: float, active_fraction: float, percent_to_sigma: Callable[[float], float], iterations: int = 60
) -> float:
    """Return the noise level down to which both branches run: active while σ > the returned value.

    In timesteps the rule is t > t_start·(1 - T_a), t_start being the timestep of the run's first sigma, so
    image-to-image keeps its share of active steps (METHOD section 3).

    Args:
        first_sigma: the run's first noise level.
        active_fraction: T_a, 0 … 1.
        percent_to_sigma: the model's map from progress (0 noisy … 1 clean, linear in the timestep) to σ,
            decreasing.
        iterations: bisection steps used to find the progress at which a partial run starts.
    """
    if active_fraction <= 0.0:
        return float("inf")
    start = _progress_at(first_sigma, percent_to_sigma, iterations)
    return percent_to_sigma(1.0 - (1.0 - start) * (1.0 - active_fraction))


def is_active(sigma: float, sigma_end: float) -> bool:
    """Tell whether both branches run at a noise level; not where the active part ends, whatever a device's last bits are.

    Args:
        sigma: noise level of the model call.
        sigma_end: of the end of the active part, see ``sigma_at_end``.
    """
    return sigma > sigma_end * (1.0 + _BOUNDARY_SLACK)


def _progress_at(sigma: float, percent_to_sigma: Callable[[float], float], iterations: int) -> float:
    low, high = 1e-6, 1.0
    if sigma >= percent_to_sigma(low):
        return 0.0
    for _ in range(iterations):
        middle = (low + high) / 2.0
        if percent_to_sigma(middle) > sigma:
            low = middle
        else:
            high = middle
    return high
