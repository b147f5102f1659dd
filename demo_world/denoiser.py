"""The demo model's UNet: the host's UNetModel in the SD1 layout, with cross-attention at every level."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.pack import import_host
from workbench.weights import reset

CONTEXT_DIM = 128
TIMESTEPS = 1000

# Keyword arguments of the host's `UNetModel`, also what `comfy.supported_models.SD15` takes as its unet_config.
UNET_CONFIG: dict[str, Any] = {
    "image_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
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


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Plain multi-head attention, several times faster to back-propagate on a CPU than torch's fused kernel.

    Args:
        q: [B, N, heads * D].
        k: [B, K, heads * D].
        v: [B, K, heads * D].
        heads: number of heads.

    Returns:
        [B, N, heads * D]
    """
    batch, _, channels = q.shape
    width = channels // heads
    q, k, v = (x.unflatten(-1, (heads, width)).transpose(1, 2).flatten(0, 1) for x in (q, k, v))  # [B * heads, ., D]
    with torch.autocast("cpu", enabled=False):  # it would compute the softmax in float32, with two copies
        probabilities = torch.bmm(q * width**-0.5, k.transpose(1, 2)).softmax(dim=-1)  # [B * heads, N, K]
        output = torch.bmm(probabilities, v)
    return output.unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)


def group_norm(norm: torch.nn.GroupNorm, x: Tensor) -> Tensor:
    """Group normalisation through the layer norm's kernel, which is ten times faster on a CPU.

    Args:
        norm: the layer.
        x: [B, C, h, w].
    """
    grouped = x.reshape(len(x), norm.num_groups, -1)
    normalised = F.layer_norm(grouped, grouped.shape[-1:], eps=norm.eps).view_as(x)
    weight, bias = (value.to(x.dtype)[:, None, None] for value in (norm.weight, norm.bias))
    return torch.addcmul(bias, normalised, weight)


def use_fast_group_norm(model: torch.nn.Module) -> None:
    """Let every group norm of `model` compute by `group_norm`; weights and names stay."""
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = partial(group_norm, module)  # type: ignore[method-assign]  # this is how a module is given another forward


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
    options = {"optimized_attention_override": lambda _, q, k, v, heads, *args, **kwargs: attention(q, k, v, heads)}
    output: Tensor = model(noisy, timestep, context, transformer_options=options)
    return output.float()


def signal_and_noise() -> tuple[Tensor, Tensor]:
    """SD1's schedule: sqrt(alpha_bar) and sqrt(1 - alpha_bar) for each timestep, both [1000]."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    kept = torch.cumprod(1.0 - betas, dim=0)
    return kept.sqrt().float(), (1.0 - kept).sqrt().float()
