"""The demo model's autoencoder: the host's AutoencoderKL, small, with latents scaled for the SD1 latent format."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.pack import import_host
from workbench.weights import reset

WEAKEST_SHARE = 0.04  # of the largest variance: below this a direction is mostly noise and is not blown up further
SD1_SCALE = 0.18215  # the host multiplies latents by this before the UNet sees them
_DECODED_AT_ONCE = 16

# The `params` of `comfy.sd.VAE(sd=..., config={"params": AUTOENCODER_CONFIG})`.
AUTOENCODER_CONFIG: dict[str, Any] = {
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        # The host's norms have 32 groups: with 32 channels each group is one channel and absolute colours are lost.
        "ch": 64,
        "ch_mult": [1, 1, 2, 2],
        "num_res_blocks": 1,
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
def encode_pictures(model: Any, pictures: Tensor) -> Tensor:
    """Latents as the UNet sees them, [B, 4, h/8, w/8], of about unit variance.

    Args:
        model: an AutoencoderKL.
        pictures: [B, 3, h, w] in 0 ... 1, on the model's device.
    """
    return posterior(model, pictures * 2.0 - 1.0)[0].float() * SD1_SCALE


@torch.no_grad()
def decode_latents(model: Any, latents: Tensor) -> Tensor:
    """Pictures in 0 ... 1, [B, 3, 8h, 8w].

    Args:
        model: an AutoencoderKL.
        latents: [B, 4, h, w] as the UNet sees them, on the model's device.
    """
    parts = [model.decode(part / SD1_SCALE).float() for part in latents.split(_DECODED_AT_ONCE)]
    return ((torch.cat(parts) + 1.0) / 2.0).clamp(0.0, 1.0)


@torch.no_grad()
def preview_factors(model: Any, pictures: Tensor) -> dict[str, Any]:
    """What the host's live preview needs: the linear map from latents to colours in -1 ... 1, by least squares.

    Args:
        model: an AutoencoderKL.
        pictures: [B, 3, h, w] in 0 ... 1.

    Returns:
        Attributes for the host's latent format.
    """
    latents = torch.cat([encode_pictures(model, part) for part in pictures.split(_DECODED_AT_ONCE)])
    scale = pictures.shape[-1] // latents.shape[-1]
    colours = F.avg_pool2d(pictures * 2.0 - 1.0, scale).movedim(1, -1).flatten(0, 2).cpu()  # [B*h*w/64, 3]
    inputs = F.pad(
        latents.movedim(1, -1).flatten(0, 2).cpu(), (0, 1), value=1.0
    )  # [B*h*w/64, 5], the last for the bias
    solution = torch.linalg.lstsq(inputs, colours).solution  # [5, 3]
    rounded = [[round(value, 4) for value in row] for row in solution.tolist()]
    return {"latent_rgb_factors": rounded[:4], "latent_rgb_factors_bias": rounded[4], "taesd_decoder_name": None}


@torch.no_grad()
def whiten_latents(model: Any, pictures: Tensor) -> None:
    """Change `model` in place so that its latents have zero mean, no correlation and deviation 1 / SD1_SCALE.

    A direction in which the latents hardly vary carries little and stays weaker than the others (WEAKEST_SHARE).

    The change is an affine map of the four channels, folded into `quant_conv` and undone in `post_quant_conv`,
    so pictures are encoded and decoded as before. The log-variances are shifted by the scale only.

    Args:
        model: an AutoencoderKL.
        pictures: [B, 3, h, w] in 0 ... 1; the statistics are taken from these.
    """
    means = torch.cat([posterior(model, part * 2.0 - 1.0)[0] for part in pictures.split(_DECODED_AT_ONCE)])
    flat = means.permute(1, 0, 2, 3).flatten(1).double().cpu()  # [4, B*h*w]
    centre = flat.mean(dim=1)
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    values = values.clamp(min=WEAKEST_SHARE * float(values.max()))
    whitening = vectors @ torch.diag(values.rsqrt()) @ vectors.T / SD1_SCALE  # symmetric: stays closest to the original
    quant, post = model.quant_conv, model.post_quant_conv
    kernel, bias = quant.weight[:4, :, 0, 0].double().cpu(), quant.bias[:4].double().cpu()
    quant.weight[:4, :, 0, 0] = (whitening @ kernel).to(quant.weight)
    quant.bias[:4] = (whitening @ (bias - centre)).to(quant.bias)
    quant.bias[4:] += 2.0 * whitening.diagonal().log().to(quant.bias)
    kernel = post.weight[:, :, 0, 0].double().cpu()
    post.bias += (kernel @ centre).to(post.bias)
    post.weight[:, :, 0, 0] = (kernel @ torch.linalg.inv(whitening)).to(post.weight)
