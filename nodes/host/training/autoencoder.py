"""Pictures to latents and back with the user's VAE; where it gives NaN it is named, and not what comes of it later."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import UserInputError


def encoded(vae: Any, pixels: Tensor, name: str) -> Tensor:
    """Return the latents of pictures, not yet scaled for the network. Call it inside inference mode.

    Args:
        vae: a host VAE.
        pixels: [n, height, width, 3], values 0 … 1.
        name: of the picture, for the error.

    Raises:
        UserInputError: the VAE gives NaN or infinity.
    """
    latents: Tensor = vae.encode(pixels)
    if not torch.isfinite(latents).all():
        raise UserInputError(f"{name} {vae_fault(vae)}")
    return latents


def decoded(vae: Any, latents: Tensor, name: str) -> Tensor:
    """Return the picture of a latent, [height, width, 3]. Call it inside inference mode.

    Args:
        vae: a host VAE.
        latents: [1, D, h, w], not scaled for the network.
        name: of the picture, for the error.

    Raises:
        UserInputError: the latent holds NaN or infinity already, or the VAE gives it.
    """
    if not torch.isfinite(latents).all():
        raise UserInputError(
            f"{name} became NaN in the model, before the VAE. Start ComfyUI with --force-upcast-attention or --fp32-unet, "
            "or load another file of the checkpoint."
        )
    picture: Tensor = vae.decode(latents)[0]
    if not torch.isfinite(picture).all():
        raise UserInputError(f"{name} {vae_fault(vae)}")
    return picture


def vae_fault(vae: Any) -> str:
    """Return what is to be said of a picture that a VAE turned into NaN, behind the picture's name."""
    dtype = getattr(vae, "vae_dtype", None)
    if dtype is torch.float16:
        cure = (
            "float16 is too narrow for some VAEs, SDXL's own among them: start ComfyUI with --bf16-vae or --fp32-vae, or load "
            "one that is made for it, such as sdxl-vae-fp16-fix, with Load VAE."
        )
    else:
        cure = "Its file seems to be damaged: load another VAE of the same family with Load VAE."
    return f"became NaN in the VAE, which computes in {str(dtype).removeprefix('torch.')}. {cure}"
