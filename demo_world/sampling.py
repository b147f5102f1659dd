"""Draw pictures with the demo model outside ComfyUI: Euler on SD1's schedule, with classifier-free guidance."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfyui_dci.dci_core.families import FAMILIES
from numpy.typing import NDArray
from torch import Tensor

from demo_world.autoencoder import SD1_SCALE
from demo_world.contexts import SIZE_PX
from demo_world.denoiser import TIMESTEPS, predict_noise, signal_and_noise
from demo_world.model import DemoModel
from demo_world.tokens import tokenize

LATENT_SHAPE = FAMILIES["sd1"].latent_shape(SIZE_PX)


def normal_sigmas(steps: int) -> tuple[Tensor, Tensor]:
    """Noise levels of the host's "normal" schedule and their timesteps: [steps + 1] ending in zero, and [steps]."""
    signal, noise = signal_and_noise()
    timesteps = torch.linspace(TIMESTEPS - 1, 0, steps)
    log_sigmas = (noise / signal).log()
    low, share = timesteps.floor().long(), timesteps.frac()
    high = (low + 1).clamp(max=TIMESTEPS - 1)
    sigmas = ((1 - share) * log_sigmas[low] + share * log_sigmas[high]).exp()
    return torch.cat([sigmas, torch.zeros(1)]), timesteps


@torch.no_grad()
def sample_latents(model: DemoModel, captions: list[str], seed: int, steps: int = 20, guidance: float = 5.0) -> Tensor:
    """Latents of one picture per caption, [B, 4, 16, 16], as the UNet sees them.

    Args:
        model: the demo model.
        captions: B prompts.
        seed: of the starting noise.
        steps: Euler steps.
        guidance: 1 is none; higher follows the caption more closely and raises contrast.
    """
    count = len(captions)
    context = model.text_encoder(tokenize(captions + [""] * count))  # conditional rows, then empty rows
    sigmas, timesteps = normal_sigmas(steps)
    x = torch.randn((count, *LATENT_SHAPE), generator=torch.Generator().manual_seed(seed)) * (1 + sigmas[0] ** 2).sqrt()
    for i in range(steps):
        scaled = x / (1 + sigmas[i] ** 2).sqrt()
        both = predict_noise(model.unet, scaled.repeat(2, 1, 1, 1), timesteps[i].expand(2 * count), context)
        conditional, empty = both.chunk(2)
        x = x + (sigmas[i + 1] - sigmas[i]) * (empty + guidance * (conditional - empty))
    return x


@torch.no_grad()
def decode(autoencoder: Any, latents: Tensor) -> NDArray[np.uint8]:
    """Pictures of latents [B, 4, h, w] as the UNet sees them: [B, 8h, 8w, 3], uint8."""
    parts = [autoencoder.decode(part / SD1_SCALE) for part in latents.split(10)]
    pixels = ((torch.cat(parts).clamp(-1.0, 1.0) + 1.0) * 127.5).round().byte()
    return pixels.permute(0, 2, 3, 1).numpy()
