"""The denoising objective (eq. 1) for variance-preserving models, written in noise levels σ = √((1-ᾱ)/ᾱ)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..prediction import Prediction


def noised_latents(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return x_t = √ᾱ·x₀ + √(1-ᾱ)·ε = (x₀ + σε)/√(1+σ²), the network's input.

    Args:
        latents: x₀, [B, D, h, w].
        noise: ε, same shape.
        sigma: σ, [B].
    """
    level = sigma.view(-1, 1, 1, 1)
    return (latents + level * noise) / (1.0 + level**2).sqrt()


def training_target(prediction: Prediction, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return what the network should predict: ε, or v = (ε - σx₀)/√(1+σ²). Shapes as in ``noised_latents``."""
    if prediction is Prediction.EPSILON:
        return noise
    level = sigma.view(-1, 1, 1, 1)
    return (noise - level * latents) / (1.0 + level**2).sqrt()


def denoised_latents(prediction: Prediction, predicted: Tensor, x: Tensor, sigma: float) -> Tensor:
    """Return x₀ = x - σε, or x/(1+σ²) - σv/√(1+σ²), from x = x₀ + σε and what the network predicted; any one shape."""
    if prediction is Prediction.EPSILON:
        return x - sigma * predicted
    return x / (1.0 + sigma**2) - predicted * (sigma / (1.0 + sigma**2) ** 0.5)


def min_snr_weight(prediction: Prediction, sigma: Tensor, gamma: float) -> Tensor:
    """Return the weight of each image's loss, min(SNR, γ)/SNR for ε and min(SNR, γ)/(SNR + 1) for v, SNR = 1/σ².

    Args:
        prediction: what the network predicts.
        sigma: σ, [B], above 0.
        gamma: γ of arXiv 2303.09556, above 0; higher weighs low noise more, ∞ (for ε) all alike.

    Returns:
        [B].
    """
    snr = sigma**-2
    return snr.clamp(max=gamma) / (snr if prediction is Prediction.EPSILON else snr + 1.0)


def denoising_loss(
    predicted: Tensor, target: Tensor, weights: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Return eq. 1: the mean squared error over all images of the batch, in float32 or better; scalar.

    Args:
        predicted: [B, D, h, w].
        target: same shape.
        weights: of each image, [B]; None is 1 each.
        mask: where an image counts, [B, 1, h, w], values 0 … 1, not all 0; each image's error is averaged over its
            mask, so that a small subject counts as much as a large one. None is everywhere.
    """
    precision = torch.promote_types(target.dtype, torch.float32)
    predicted, target = predicted.to(target.device, precision), target.to(precision)
    if weights is None and mask is None:
        return F.mse_loss(predicted, target)
    error = (predicted - target).square().mean(dim=1)  # [B, h, w]
    counted = torch.ones_like(error) if mask is None else mask[:, 0].to(error)
    images = (error * counted).sum(dim=(1, 2)) / counted.sum(dim=(1, 2))
    return images.mean() if weights is None else (images * weights.to(images)).mean()
