"""The demo model's UNet: the host's UNetModel in the SD1 layout, with cross-attention at every level."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from comfyui_dci.dci_core.families import FAMILIES
from torch import Tensor

from demo_world.placement import PICTURE_PX
from workbench.pack import import_host
from workbench.weights import reset

LATENT_SHAPE = FAMILIES["sd1"].latent_shape(PICTURE_PX)
CONTEXT_DIM = 256
TIMESTEPS = 1000

# Keyword arguments of the host's `UNetModel`, also what `comfy.supported_models.SD15` takes as its unet_config.
UNET_CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 96,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 2],
    "transformer_depth": [1, 1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "num_heads": 4,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "context_dim": CONTEXT_DIM,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "legacy": False,
}


def build_unet() -> torch.nn.Module:
    """Build the host's class with fresh weights; the last layer of every residual branch starts at zero."""
    import_host()
    from comfy.ldm.modules.attention import SpatialTransformer
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel

    model = UNetModel(**UNET_CONFIG, dtype=torch.float32)
    reset(model)
    for module in model.modules():
        if isinstance(module, ResBlock):
            torch.nn.init.zeros_(module.out_layers[-1].weight)
        if isinstance(module, SpatialTransformer):
            torch.nn.init.zeros_(module.proj_out.weight)
    torch.nn.init.zeros_(model.out[-1].weight)
    unet: torch.nn.Module = model
    return unet


def attention(_: object, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: object, **kwargs: object) -> Tensor:
    """Multi-head attention by torch's own kernel, called as the host calls what overrides its attention.

    Args:
        q: [B, N, heads * D].
        k: [B, K, heads * D].
        v: [B, K, heads * D].
        heads: number of heads.

    Returns:
        [B, N, heads * D]
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # [B, heads, ., D]
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def predict_noise(model: torch.nn.Module, noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
    """Run the UNet with an attention that can be back-propagated.

    Args:
        model: from `build_unet`.
        noisy: [B, 4, h, w], already at unit variance (the variance-preserving form).
        timestep: [B], 0 ... 999.
        context: [B, 77, CONTEXT_DIM], the text encoding.

    Returns:
        The predicted noise, [B, 4, h, w].
    """
    output: Tensor = model(noisy, timestep, context, transformer_options={"optimized_attention_override": attention})
    return output.float()


@cache
def signal_and_noise(device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
    """SD1's schedule: sqrt(alpha_bar) and sqrt(1 - alpha_bar) for each timestep, both [1000]; do not write into them.

    Args:
        device: where they are needed.
    """
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    kept = torch.cumprod(1.0 - betas, dim=0)
    return kept.sqrt().float().to(device), (1.0 - kept).sqrt().float().to(device)
