"""Tiny SD1, SD2 and SDXL models made of ComfyUI's own classes, with random weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models as supported
import comfy.taesd.taesd
import comfy.text_encoders.sd2_clip
import torch
from comfyui_dci.nodes.host.families import HOST_CLASSES

from workbench.layouts import NARROW, SD15, TINY, TINY_TEXT, TINY_TEXT_G, VARIANTS
from workbench.weights import fill

LARGER = {"small": NARROW, "sd15": SD15}
DEVICE = comfy.model_management.get_torch_device()
CPU = torch.device("cpu")
EMBEDDING = 0.05  # deviation of the tiny text encoders' embeddings


class Tiny(NamedTuple):
    """A host MODEL, CLIP and VAE."""

    model: Any
    clip: Any
    vae: Any


def tiny(family: str, v_prediction: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tiny:
    """Return a tiny model of a family, one of ``TINY``; it predicts v if asked to, or if the family does."""
    return Tiny(
        tiny_model(family, v_prediction or family == "sd2v", dtype, seed), tiny_clip(family, seed), tiny_vae(seed)
    )


def tiny_model(family: str, v_prediction: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """Return the MODEL of a tiny model."""
    config = _config(family)(TINY[family])
    config.set_inference_dtype(dtype, None)
    kind = comfy.model_base.ModelType.V_PREDICTION if v_prediction else comfy.model_base.ModelType.EPS
    base = comfy.model_base.SDXL if isinstance(config, supported.SDXL) else comfy.model_base.BaseModel
    model = base(config, model_type=kind, device=CPU)
    if family.endswith("inpaint"):
        model.set_inpaint()
    fill_tiny(model.diffusion_model, seed)
    with torch.no_grad():
        model.diffusion_model.out[2].weight.mul_(0.3)  # a smooth model, so that adaptive samplers end soon
    return comfy.model_patcher.ModelPatcher(model, load_device=DEVICE, offload_device=CPU)


def tiny_clip(family: str, seed: int = 0) -> Any:
    """Return the CLIP of a tiny model."""
    if issubclass(_config(family), supported.SDXL):
        kind = (comfy.sdxl_clip.SDXLClipModel, comfy.sdxl_clip.SDXLTokenizer)
    elif issubclass(_config(family), supported.SD20):
        kind = (comfy.text_encoders.sd2_clip.SD2ClipModel, comfy.text_encoders.sd2_clip.SD2Tokenizer)
    else:
        kind = (comfy.sd1_clip.SD1ClipModel, comfy.sd1_clip.SD1Tokenizer)
    options: dict[str, Any] = {f"clip_{name}_model_config": TINY_TEXT_G if name == "g" else TINY_TEXT for name in "lgh"}
    clip = _clip(*kind, dtype=torch.float32, **options)
    fill_tiny(clip.cond_stage_model, seed + 1)
    return clip


def tiny_vae(seed: int = 0) -> Any:
    """Return the VAE of a tiny model."""
    return _vae(torch.Generator().manual_seed(seed + 2), EMBEDDING)


def larger(layout: str) -> Tiny:
    """Return an SD1 model in half precision with SD1's own text encoder; "sd15" has the true size, "small" a fifth of its width."""
    config = supported.SD15(LARGER[layout])
    config.set_inference_dtype(torch.float16, None)
    model = comfy.model_base.BaseModel(config, device=CPU)
    clip = _clip(comfy.sd1_clip.SD1ClipModel, comfy.sd1_clip.SD1Tokenizer, dtype=torch.float16)
    for module in (model.diffusion_model, clip.cond_stage_model):
        fill(module, torch.Generator().manual_seed(0))
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=DEVICE, offload_device=CPU)
    return Tiny(patcher, clip, _vae(torch.Generator().manual_seed(0)))


def fill_tiny(module: torch.nn.Module, seed: int) -> None:
    """Give every parameter of a network in a tiny model a random value."""
    fill(module, torch.Generator().manual_seed(seed), EMBEDDING)


def _config(family: str) -> Any:
    """Return the host's configuration of a family or variant."""
    class_names = {name: class_name for class_name, name in HOST_CLASSES.items()}
    return getattr(supported, class_names[VARIANTS.get(family, family)])


def _clip(model: type, tokenizer: type, **options: Any) -> Any:
    target = SimpleNamespace(params={}, clip=model, tokenizer=tokenizer)
    return comfy.sd.CLIP(target, model_options=options)


def _vae(generator: torch.Generator, embedding: float = 0.02) -> Any:
    autoencoder = comfy.taesd.taesd.TAESD()
    fill(autoencoder, generator, embedding)
    with torch.no_grad():
        autoencoder.vae_scale.fill_(1.0)
        autoencoder.vae_shift.fill_(0.0)
    return comfy.sd.VAE(sd=autoencoder.state_dict())
