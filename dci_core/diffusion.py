"""The denoising objective (eq. 1) for variance-preserving models, written in noise levels σ = √((1-ᾱ)/ᾱ)."""

from __future__ import annotations

from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor


class Prediction(str, Enum):
    """What a model's output means: the noise ε, or the velocity v = √ᾱ·ε - √(1-ᾱ)·x₀."""

    EPSILON = "epsilon"
    V = "v"


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


def denoising_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return eq. 1: the mean squared error over all images of the batch, in float32 or better; scalar."""
    precision = torch.promote_types(target.dtype, torch.float32)
    return F.mse_loss(predicted.to(target.device, precision), target.to(precision))
