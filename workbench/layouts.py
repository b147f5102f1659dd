"""UNet configurations of the families, from SD1.5's true size down to a few thousand parameters."""

from __future__ import annotations

from typing import Any

Layout = dict[str, Any]

COMMON: Layout = {
    "use_checkpoint": False,
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_temporal_attention": False,
}
SD15: Layout = {
    **COMMON,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
    "adm_in_channels": None,
    "use_linear_in_transformer": False,
}
"""SD1.5's true size."""
NARROW: Layout = {**SD15, "model_channels": 64}
"""SD1.5's layers at a fifth of their width."""
ONE_LEVEL: Layout = {
    **SD15,
    "channel_mult": [1],
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
}
"""Four cross-attention layers of SD1.5's width."""

TINY_SD1: Layout = {**SD15, "model_channels": 32, "channel_mult": [1, 1, 2, 2], "context_dim": 64}
TINY_SD2: Layout = {**TINY_SD1, "model_channels": 64, "use_linear_in_transformer": True}
TINY_SDXL: Layout = {
    **COMMON,
    "model_channels": 64,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "context_dim": 64 + 96,
    "adm_in_channels": 96 + 6 * 256,
    "num_classes": "sequential",
    "use_linear_in_transformer": True,
}
_INPAINT: Layout = {"in_channels": 9}
TINY: dict[str, Layout] = {
    "sd1": TINY_SD1,
    "inpaint": {**TINY_SD1, **_INPAINT},
    "mini": {  # an SD1 of three cross-attention layers, for what needs very many runs
        **TINY_SD1,
        "num_res_blocks": [1],
        "channel_mult": [1],
        "transformer_depth": [1],
        "transformer_depth_output": [1, 0],
    },
    "sd2": TINY_SD2,
    "sd2v": TINY_SD2,  # SD2.x at 768 pixels predicts v
    "sd2_inpaint": {**TINY_SD2, **_INPAINT},
    "sdxl": TINY_SDXL,
    "sdxl_inpaint": {**TINY_SDXL, **_INPAINT},
    "ssd1b": {
        **TINY_SDXL,
        "transformer_depth": [0, 0, 2, 2, 3, 3],
        "transformer_depth_output": [0, 0, 0, 1, 1, 2, 4, 3, 3],
        "transformer_depth_middle": -1,
    },
    "vega": {**TINY_SDXL, "transformer_depth_middle": -1},
    "koala_700m": {
        **TINY_SDXL,
        "num_res_blocks": [1, 1, 1],
        "transformer_depth": [0, 2, 3],
        "transformer_depth_output": [0, 0, 2, 2, 3, 3],
        "transformer_depth_middle": -2,
    },
}
"""For tests, by family or variant."""
VARIANTS = {"inpaint": "sd1", "mini": "sd1", "sd2v": "sd2", "sd2_inpaint": "sd2", "sdxl_inpaint": "sdxl"}
"""The family of each variant."""
TINY_TEXT: Layout = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 128}
"""Of CLIP-L and SD2's OpenCLIP."""
TINY_TEXT_G: Layout = {"hidden_size": 96, "num_attention_heads": 3, "num_hidden_layers": 4, "intermediate_size": 192}
"""Of SDXL's second text encoder."""
