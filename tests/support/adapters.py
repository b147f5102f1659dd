"""A stand-in for IPAdapter_plus: its pattern of patching, nothing of its code."""

from __future__ import annotations

import copy
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfyui_dci.nodes.host.sampling.layers import cross_attention_layers


class AdapterPatch:
    """IPAdapter's: an object that sits on a layer, takes further adapters with ``add``, and has a pair (cond, uncond)."""

    def __init__(self, scale: float) -> None:
        self.scales = [scale]

    def add(self, scale: float) -> None:
        self.scales.append(scale)

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra: dict[str, Any]) -> torch.Tensor:
        out = optimized_attention(q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"])
        for scale in self.scales:
            pair = (scale * k[:, 1:5], 0.0 * k[:, 1:5])
            size = q.shape[0] // len(extra["cond_or_uncond"])
            for chunk, index in enumerate(extra["cond_or_uncond"]):
                rows = slice(chunk * size, (chunk + 1) * size)
                out[rows] += optimized_attention(q[rows], pair[index][rows], v[rows, 1:5], extra["n_heads"])
        return out

    def to(self, device: Any) -> AdapterPatch:
        return self


def add_adapter(model: Any, scale: float, depth: bool = True) -> Any:
    """IPAdapter's way of adding: it calls ``add`` on what it finds under its key, else sets its own object."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    replacements = options.setdefault("patches_replace", {}).setdefault("attn2", {})
    for layer in cross_attention_layers(model.model.diffusion_model):
        key = layer if depth else layer[:2]
        if key in replacements:
            replacements[key] = copy.deepcopy(replacements[key])
            replacements[key].add(scale)
        else:
            replacements[key] = AdapterPatch(scale)
    return clone
