"""The loss of one batch: images of any sizes with their prompts, noised at random (eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .data import MaskedLatents, TextConditioning
from .diffusion import denoising_loss, min_snr_weight, noised_latents, training_target
from .model import DiffusionModel


@dataclass(frozen=True)
class Batch:
    """Images with their encoded prompts.

    Args:
        images: B of them, of any sizes.
        text: of B prompts.
        weights: of each image's loss, [B]; None is 1 each.
    """

    images: Sequence[MaskedLatents]
    text: TextConditioning
    weights: Tensor | None = None


def batch_loss(
    model: DiffusionModel,
    batch: Batch,
    generator: torch.Generator,
    noise_offset: float = 0.0,
    min_snr_gamma: float = 0.0,
) -> Tensor:
    """Return the mean loss over a batch, scalar; images of one size go through the network together.

    Args:
        model: what is asked.
        batch: of one image or more.
        generator: of timesteps and noise.
        noise_offset: share of noise that is one number per image and channel; 0 is none.
        min_snr_gamma: γ of min-SNR weighting; 0 weighs all timesteps alike.
    """
    images = batch.images
    timesteps = torch.randint(model.sigmas.shape[0], (len(images),), generator=generator)
    sizes: dict[torch.Size, list[int]] = {}
    for number, image in enumerate(images):
        sizes.setdefault(image.latents.shape, []).append(number)
    shares = []
    for numbers in sizes.values():
        latents = torch.stack([images[number].latents for number in numbers])  # [B, D, h, w]
        mask = _stacked([images[number].mask for number in numbers], latents)
        noise = torch.randn(latents.shape, generator=generator)
        if noise_offset:
            noise += noise_offset * torch.randn(*latents.shape[:2], 1, 1, generator=generator)
        noise = noise.to(latents)
        sigma = model.sigmas[timesteps[numbers]].to(latents)
        weights = None if batch.weights is None else batch.weights[numbers].to(latents)
        if min_snr_gamma:
            snr = min_snr_weight(model.prediction, sigma, min_snr_gamma)
            weights = snr if weights is None else weights * snr
        noisy = noised_latents(latents, noise, sigma)
        text = batch.text if len(sizes) == 1 else batch.text.rows(torch.tensor(numbers))
        predicted = model.denoiser(noisy, timesteps[numbers].to(latents.device), text)
        loss = denoising_loss(predicted, training_target(model.prediction, latents, noise, sigma), weights, mask)
        shares.append(loss if len(sizes) == 1 else loss * (len(numbers) / len(images)))
    total = shares[0]
    for share in shares[1:]:
        total = total + share
    return total


def _stacked(masks: list[Tensor | None], latents: Tensor) -> Tensor | None:
    """Return the masks of a batch, [B, 1, h, w], ones for images without; None when no image has one."""
    if all(mask is None for mask in masks):
        return None
    everywhere = torch.ones(1, *latents.shape[2:]).to(latents)
    return torch.stack([everywhere if mask is None else mask.to(latents) for mask in masks])
