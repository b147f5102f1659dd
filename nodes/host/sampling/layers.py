"""Find the cross-attention layers of a network, and how small the latent is at each."""

from __future__ import annotations

import re
from typing import Any

import comfy.ldm.modules.attention as host_attention
import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel

from ....dci_core.errors import UserInputError

Layer = tuple[str, int, int]
"""The host's hook key of a layer: block, number, depth index."""
_BLOCK = re.compile(r"(input|middle|output)_blocks?\.(\d+)(?:\.\d+)?\.transformer_blocks\.(\d+)")


def cross_attention_layers(diffusion_model: Any) -> dict[Layer, int]:
    """Return the hook keys of all text cross-attention layers, in forward order.

    Returns:
        Of each layer how often the latent's edge has been halved when it is reached.

    Raises:
        UserInputError: there are none.
    """
    layers: dict[Layer, int] = {}
    halvings = 0
    for name, module in diffusion_model.named_modules():
        halvings += _halving(name, module)
        if isinstance(module, host_attention.BasicTransformerBlock) and module.attn2 is not None:
            match = _BLOCK.fullmatch(name.replace("_orig_mod.", ""))  # which torch.compile puts in
            if match is None:
                raise UserInputError(f"The layer {name} of this model is laid out in a way DCI does not know.")
            block, number, index = match.groups()
            layers[block, 0 if block == "middle" else int(number), int(index)] = halvings
    if not layers:
        raise UserInputError("This model has no text cross-attention layers. Connect an SD1.x, SD2.x or SDXL model.")
    return layers


def _halving(name: str, module: Any) -> int:
    """Return 1 for a module that halves the edge, -1 for one that doubles it; of the two in a resizing ResBlock one counts."""
    if name.endswith("x_upd"):
        return 0
    return isinstance(module, openaimodel.Downsample) - isinstance(module, openaimodel.Upsample)
