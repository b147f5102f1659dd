"""Draw pictures with the demo model outside ComfyUI: Euler on SD1's schedule, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from comfyui_dci.dci_core.families import FAMILIES
from numpy.typing import NDArray
from torch import Tensor

from demo_world.autoencoder import decode_latents
from demo_world.denoiser import TIMESTEPS, predict_noise, signal_and_noise
from demo_world.model import DemoModel
from demo_world.placement import PICTURE_PX
from demo_world.tokens import tokenize

LATENT_SHAPE = FAMILIES["sd1"].latent_shape(PICTURE_PX)
_DRAWN_AT_ONCE = 32  # captions; each takes two rows of the UNet


def normal_sigmas(steps: int) -> tuple[Tensor, Tensor]:
    """Noise levels of the host's "normal" schedule and their timesteps: [steps + 1] ending in zero, and [steps].

    Noise levels lie between those of training, timesteps are rounded, as in the host.
    """
    signal, noise = signal_and_noise()
    timesteps = torch.linspace(TIMESTEPS - 1, 0, steps)
    log_sigmas = (noise / signal).log()
    low, share = timesteps.floor().long(), timesteps.frac()
    high = (low + 1).clamp(max=TIMESTEPS - 1)
    sigmas = ((1 - share) * log_sigmas[low] + share * log_sigmas[high]).exp()
    return torch.cat([sigmas, torch.zeros(1)]), timesteps.round()


@torch.no_grad()
def sample_latents(
    model: DemoModel, captions: Sequence[str], seed: int, steps: int = 20, guidance: float = 5.0
) -> Tensor:
    """Latents of one picture per caption, [B, *LATENT_SHAPE], as the UNet sees them, on the model's device.

    Args:
        model: the demo model.
        captions: B prompts.
        seed: of the starting noise, which is drawn on the CPU: every device starts from the same.
        steps: Euler steps.
        guidance: 1 is none; higher follows the caption more closely and raises contrast.
    """
    noise = torch.randn((len(captions), *LATENT_SHAPE), generator=torch.Generator().manual_seed(seed)).to(model.device)
    parts = range(0, len(captions), _DRAWN_AT_ONCE)
    ends = [slice(start, start + _DRAWN_AT_ONCE) for start in parts]
    return torch.cat([_denoise(model, captions[rows], noise[rows], steps, guidance) for rows in ends])


def _denoise(model: DemoModel, captions: Sequence[str], noise: Tensor, steps: int, guidance: float) -> Tensor:
    """Euler steps from unit noise [B, 4, h, w] to latents."""
    count = len(captions)
    tokens = tokenize([*captions, *[""] * count])  # conditional rows, then empty rows
    context = model.text_encoder(tokens.to(model.device))
    levels, timesteps = (values.tolist() for values in normal_sigmas(steps))
    x = noise * (1 + levels[0] ** 2) ** 0.5
    for sigma, following, timestep in zip(levels, levels[1:], timesteps):
        scaled = (x / (1 + sigma**2) ** 0.5).repeat(2, 1, 1, 1)
        times = torch.full((2 * count,), timestep, device=model.device)
        conditional, empty = predict_noise(model.unet, scaled, times, context).chunk(2)
        x = x + (following - sigma) * (empty + guidance * (conditional - empty))
    return x


def decode(autoencoder: Any, latents: Tensor) -> NDArray[np.uint8]:
    """Pictures of latents [B, 4, h, w] as the UNet sees them: [B, 8h, 8w, 3], uint8.

    Args:
        autoencoder: an AutoencoderKL, on the latents' device.
        latents: as from `sample_latents`.
    """
    pixels = (decode_latents(autoencoder, latents) * 255.0).round().byte()
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
