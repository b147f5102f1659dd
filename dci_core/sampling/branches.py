"""The auxiliary branch outside the network: its noise, its guidance, its steps, its end."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_NOISE_DOMAIN = b"dci auxiliary noise 1"
USUAL_LOG_STEP = 0.03
"""ln(σ/σ') of the first of the published code's 200 steps; it falls to 0.024 at T_a 0.15 and 0.020 at 0.3 (SD's schedule)."""
_HALF_A_TIMESTEP = 0.0005  # of 1000, as progress
_BOUNDARY_SLACK = 1e-5  # relative; GPUs and CPUs compute the same noise level with other last bits


def auxiliary_noise(noise: Tensor, seed: int, draw: int = 0) -> Tensor:
    """Draw noise of the auxiliary branch, independent of the concept branch's.

    Every row has its own generator, seeded by a fixed mix (SHA-256) of the run's seed and that row's
    concept noise. A sampler is never told which rows of a batch it is given; the row's own noise tells,
    so row 2 of a batch draws the same noise as the same image generated alone.

    Args:
        noise: the concept branch's noise, [B, D, h, w], any device.
        seed: the run's seed, any integer.
        draw: 0 is the starting noise; each other number is noise of its own, for a stochastic branch's steps.

    Returns:
        Standard normal noise of the same shape, dtype and device.
    """
    rows = []
    for row in noise.detach().to("cpu", torch.float32):
        name = f"{int(seed)}/" + (f"{draw}/" if draw else "")
        mix = hashlib.sha256(_NOISE_DOMAIN + name.encode() + row.contiguous().numpy().tobytes())
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


def fine_sigmas(sigma: float, sigma_next: float) -> list[float]:
    """Return the noise levels from σ to σ', both included, in equal ratios of about the published code's step.

    With shared guidance the difference of both latents is multiplied by 1 + s(r - 1) per Euler step, r = σ'/σ
    (``contraction``). One long step overshoots. The steps here have ln(σ/σ') below 0.045, so they contract for every guidance scale
    s up to 22.

    Args:
        sigma: σ > 0.
        sigma_next: σ' > 0; higher than σ is a step back.

    Returns:
        At least two levels; for σ' = σ just these.
    """
    count = _fine_steps(sigma, sigma_next)
    between = [sigma * (sigma_next / sigma) ** (number / count) for number in range(1, count)]
    return [sigma, *between, sigma_next]


def fine_step(
    x: Tensor,
    concept: Tensor,
    denoised: Tensor,
    unconditional: Tensor,
    guided: Tensor,
    guidance: float,
    sigma: float,
    sigma_next: float,
) -> Tensor:
    """Move the auxiliary latent from σ to σ' by ``fine_sigmas`` with shared guidance, all predictions held: one closed form.

    With y = x_a - x_c a step of ratio ρ is y ← y + (ρ - 1)(s·y - g), g = D_u + s(D_a - D_u) - D_g. So y - g/s shrinks by
    1 + s(ρ - 1) in each of K steps, while x_c moves on its Euler step towards D_g.

    Args:
        x: x_a at σ, [B, D, h, w].
        concept: x_c at σ, same shape; so are all others.
        denoised: D_a, the auxiliary branch's conditional prediction.
        unconditional: D_u of the concept's latent.
        guided: D_g, the concept's guided image.
        guidance: s ≠ 0.
        sigma: σ > 0.
        sigma_next: σ' > 0.
    """
    count = _fine_steps(sigma, sigma_next)
    kept = (1.0 + guidance * ((sigma_next / sigma) ** (1.0 / count) - 1.0)) ** count
    meeting = (unconditional - guided) / guidance + (denoised - unconditional)  # g / s
    return euler_step(concept, guided, sigma, sigma_next) + meeting + kept * (x - concept - meeting)


def contraction(ratio: float, guidance: float) -> float:
    """Return what one Euler step with shared guidance multiplies the difference of both latents by, as the network sees it.

    d' = d·(1 + s(r - 1)), and both are divided by their noise level (METHOD section 7): (1 + s(r - 1))/r. Stable steps have
    0 … 1; -1.16 is what 20 steps at s = 7 have.

    Args:
        ratio: r = σ'/σ.
        guidance: s, the scale of guidance.
    """
    return (1.0 + guidance * (ratio - 1.0)) / ratio


def stochastic_levels(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """Return the level to step down to and the deviation of the noise to add there, so that σ' is reached (DDIM's η).

    Args:
        sigma: σ > 0.
        sigma_next: σ'; not below σ nothing is added.
        eta: 0 is deterministic: (σ', 0); 1 is DDPM's, the host's "ancestral".
    """
    if sigma_next >= sigma:
        return sigma_next, 0.0
    up = min(sigma_next, eta * sigma_next * math.sqrt(1.0 - (sigma_next / sigma) ** 2))
    return math.sqrt(sigma_next**2 - up**2), up


def composite(inside: Tensor, outside: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``inside`` where the inpainting mask is 1 and ``outside`` where it is 0; None is all inside."""
    return inside if mask is None else inside * mask + outside * (1.0 - mask)


def sigma_at_end(
    sigmas: Sequence[float], active_fraction: float, percent_to_sigma: Callable[[float], float], iterations: int = 60
) -> float:
    """Return the noise level down to which both branches run: active while σ > the returned value.

    In timesteps the rule is t > t_start·(1 - T_a). For a full run t_start is the schedule's range, so the end is
    ``percent_to_sigma(T_a)`` also where a scheduler begins below it (``ddim_uniform``: 981 of 50 steps), as in the published
    code. Such a run is known by its first two steps: equally long in timesteps, and one more of them would pass the range's end. For
    image-to-image, and where a full run would have no active step at all, t_start is the first timestep, so that it keeps its
    share (METHOD section 3).

    Args:
        sigmas: the run's noise levels, at least the first; three tell a full run that begins below the range.
        active_fraction: T_a, 0 … 1.
        percent_to_sigma: the model's map from progress (0 noisy … 1 clean, linear in the timestep) to σ,
            decreasing.
        iterations: bisection steps used to find the progress of a noise level.
    """
    if active_fraction <= 0.0:
        return float("inf")
    start = _progress_at(sigmas[0], percent_to_sigma, iterations)
    if 0.0 < start < active_fraction and len(sigmas) > 2 and sigmas[2] > 0.0:
        second, third = (_progress_at(sigma, percent_to_sigma, iterations) for sigma in sigmas[1:3])
        is_even = abs((third - second) - (second - start)) < _HALF_A_TIMESTEP
        start = 0.0 if is_even and 2.0 * start - second < -_HALF_A_TIMESTEP else start
    return percent_to_sigma(1.0 - (1.0 - start) * (1.0 - active_fraction))


def is_active(sigma: float, sigma_end: float) -> bool:
    """Tell whether both branches run at a noise level; not where the active part ends, whatever a device's last bits are.

    Args:
        sigma: noise level of the model call.
        sigma_end: of the end of the active part, see ``sigma_at_end``.
    """
    return sigma > sigma_end * (1.0 + _BOUNDARY_SLACK)


def _fine_steps(sigma: float, sigma_next: float) -> int:
    return max(1, round(abs(math.log(sigma / sigma_next)) / USUAL_LOG_STEP))


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
