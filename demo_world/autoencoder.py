"""The demo model's autoencoder: the host's AutoencoderKL, small, with latents scaled for the SD1 latent format."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.pack import import_host
from workbench.weights import reset

AUTOENCODER_CHECKPOINT = "autoencoder.pt"
WEAKEST_SHARE = 0.04  # of the largest variance: below this a direction is mostly noise and is not blown up further
SD1_SCALE = 0.18215  # the host multiplies latents by this before the UNet sees them

# The `params` of `comfy.sd.VAE(sd=..., config={"params": AUTOENCODER_CONFIG})`.
AUTOENCODER_CONFIG: dict[str, Any] = {
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 128,
        "in_channels": 3,
        "out_ch": 3,
        # The host's norms have 32 groups: with 32 channels each group is one channel and absolute colours are lost.
        "ch": 64,
        "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 0,  # encoder: patches, then the middle blocks; decoder: one block a level
        "attn_resolutions": [],
        "dropout": 0.0,
    },
    "embed_dim": 4,
}


def build_autoencoder() -> Any:
    """Build the host's AutoencoderKL with fresh weights."""
    import_host()
    from comfy.ldm.models.autoencoder import AutoencoderKL

    model = AutoencoderKL(**AUTOENCODER_CONFIG)
    reset(model)
    return model


def posterior(model: Any, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latents, each [B, 4, h/8, w/8].

    Args:
        model: an AutoencoderKL.
        pictures: [B, 3, h, w] in -1 ... 1.
    """
    moments = model.quant_conv(model.encoder(pictures))
    mean, log_variance = moments.chunk(2, dim=1)
    return mean, log_variance.clamp(-30.0, 20.0)


@torch.no_grad()
def whiten_latents(model: Any, pictures: Tensor) -> None:
    """Change `model` in place so that its latents have zero mean, no correlation and deviation 1 / SD1_SCALE.

    A direction in which the latents hardly vary carries little and stays weaker than the others (WEAKEST_SHARE).

    The change is an affine map of the four channels, folded into `quant_conv` and undone in `post_quant_conv`,
    so pictures are encoded and decoded as before. The log-variances are shifted by the scale only.

    Args:
        model: an AutoencoderKL.
        pictures: [B, 3, h, w] in -1 ... 1; the statistics are taken from these.
    """
    means = torch.cat([posterior(model, part)[0] for part in pictures.split(16)])
    flat = means.permute(1, 0, 2, 3).flatten(1)  # [4, B*h*w]
    centre = flat.mean(dim=1)
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    values = values.clamp(min=WEAKEST_SHARE * float(values.max()))
    whitening = vectors @ torch.diag(values.rsqrt()) @ vectors.T / SD1_SCALE  # symmetric: stays closest to the original
    undo = torch.linalg.inv(whitening)
    quant, post = model.quant_conv, model.post_quant_conv
    kernel, bias = quant.weight[:4, :, 0, 0].clone(), quant.bias[:4].clone()
    quant.weight[:4, :, 0, 0] = whitening @ kernel
    quant.bias[:4] = whitening @ (bias - centre)
    quant.bias[4:] += 2.0 * torch.log(whitening.diagonal())
    kernel = post.weight[:, :, 0, 0].clone()
    post.bias += kernel @ centre
    post.weight[:, :, 0, 0] = kernel @ undo
