"""Tiny SD1, SD2 and SDXL models made of ComfyUI's own classes, with random weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models as supported
import comfy.taesd.taesd
import comfy.text_encoders.sd2_clip
import torch

COMMON = {
    "use_checkpoint": False,
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_temporal_attention": False,
}
SD1_LAYOUT = {
    "model_channels": 32,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 1, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 64,
    "adm_in_channels": None,
    "use_linear_in_transformer": False,
}
SDXL_LAYOUT = {
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
LAYOUTS = {
    "sd1": SD1_LAYOUT,
    "inpaint": SD1_LAYOUT | {"in_channels": 9},
    "sd2": SD1_LAYOUT | {"use_linear_in_transformer": True, "model_channels": 64},
    "sdxl": SDXL_LAYOUT,
    "sdxl_inpaint": SDXL_LAYOUT | {"in_channels": 9},
    "ssd1b": SDXL_LAYOUT
    | {
        "transformer_depth": [0, 0, 2, 2, 3, 3],
        "transformer_depth_output": [0, 0, 0, 1, 1, 2, 4, 3, 3],
        "transformer_depth_middle": -1,
    },
    "vega": SDXL_LAYOUT
    | {
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
        "transformer_depth_middle": -1,
    },
    "koala_700m": SDXL_LAYOUT
    | {
        "num_res_blocks": [1, 1, 1],
        "transformer_depth": [0, 2, 3],
        "transformer_depth_output": [0, 0, 2, 2, 3, 3],
        "transformer_depth_middle": -2,
    },
    "mini": SD1_LAYOUT  # an SD1 of three cross-attention layers, for what needs very many runs
    | {
        "num_res_blocks": [1],
        "channel_mult": [1],
        "transformer_depth": [1],
        "transformer_depth_output": [1, 0],
    },
}
LAYOUTS["sd2v"] = LAYOUTS["sd2"]  # SD2.x at 768 pixels predicts v
LAYOUTS["sd2_inpaint"] = LAYOUTS["sd2"] | {"in_channels": 9}
CONFIGS = {
    "sd2v": supported.SD20,
    "sd2_inpaint": supported.SD20,
    "sdxl_inpaint": supported.SDXL,
    "sd1": supported.SD15,
    "inpaint": supported.SD15,
    "mini": supported.SD15,
    "sd2": supported.SD20,
    "sdxl": supported.SDXL,
    "ssd1b": supported.SSD1B,
    "vega": supported.Segmind_Vega,
    "koala_700m": supported.KOALA_700M,
}
TEXT = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 128}
TEXT_G = {"hidden_size": 96, "num_attention_heads": 3, "num_hidden_layers": 4, "intermediate_size": 192}

DEVICE = comfy.model_management.get_torch_device()  # the CPU, unless the tests are run with --gpu


class Tiny(NamedTuple):
    """A host MODEL, CLIP and VAE."""

    model: Any
    clip: Any
    vae: Any


def tiny(family: str, v_prediction: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tiny:
    """Return a tiny model of a family, one of ``LAYOUTS``; it predicts v if asked to, or if the family does."""
    return Tiny(
        tiny_model(family, v_prediction or family == "sd2v", dtype, seed), tiny_clip(family, seed), tiny_vae(seed)
    )


def tiny_model(family: str, v_prediction: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    config = CONFIGS[family]({**COMMON, **LAYOUTS[family]})
    config.set_inference_dtype(dtype, None)
    kind = comfy.model_base.ModelType.V_PREDICTION if v_prediction else comfy.model_base.ModelType.EPS
    base = comfy.model_base.SDXL if isinstance(config, supported.SDXL) else comfy.model_base.BaseModel
    model = base(config, model_type=kind, device=torch.device("cpu"))
    if family.endswith("inpaint"):
        model.set_inpaint()
    fill(model.diffusion_model, seed)
    with torch.no_grad():
        model.diffusion_model.out[2].weight.mul_(0.3)  # a smooth model, so that adaptive samplers end soon
    return comfy.model_patcher.ModelPatcher(model, load_device=DEVICE, offload_device=torch.device("cpu"))


def tiny_clip(family: str, seed: int = 0) -> Any:
    classes = {
        "sd1": (comfy.sd1_clip.SD1ClipModel, comfy.sd1_clip.SD1Tokenizer),
        "sd2": (comfy.text_encoders.sd2_clip.SD2ClipModel, comfy.text_encoders.sd2_clip.SD2Tokenizer),
        "sdxl": (comfy.sdxl_clip.SDXLClipModel, comfy.sdxl_clip.SDXLTokenizer),
    }
    kind = (
        "sdxl"
        if issubclass(CONFIGS[family], supported.SDXL)
        else "sd2"
        if CONFIGS[family] is supported.SD20
        else family
    )
    clip_class, tokenizer = classes.get(kind, classes["sd1"])
    target = SimpleNamespace(params={}, clip=clip_class, tokenizer=tokenizer)
    options = {f"clip_{name}_model_config": TEXT_G if name == "g" else TEXT for name in "lgh"}
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32, **options})
    fill(clip.cond_stage_model, seed + 1)
    return clip


def tiny_vae(seed: int = 0) -> Any:
    autoencoder = comfy.taesd.taesd.TAESD()
    fill(autoencoder, seed + 2)
    with torch.no_grad():
        autoencoder.vae_scale.fill_(1.0)
        autoencoder.vae_shift.fill_(0.0)
    return comfy.sd.VAE(sd=autoencoder.state_dict())


@torch.no_grad()
def fill(module: torch.nn.Module, seed: int) -> None:
    """Give every parameter a value: the host creates its layers uninitialised."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            parameter.copy_(noise * (0.05 if "embedding" in name else fan_in**-0.5))
        else:
            parameter.copy_(0.02 * noise + (1.0 if name.endswith("weight") else 0.0))
