"""Load this pack and the ComfyUI of COMFYUI_PATH, and make a host MODEL, CLIP and VAE of a chosen size with random weights."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACK = "comfyui_dci"
LAYOUTS = {
    "small": {"model_channels": 64, "context_dim": 768, "num_heads": 8},
    "sd15": {"model_channels": 320, "context_dim": 768, "num_heads": 8},
}
_SD1 = {
    "use_checkpoint": False,
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_temporal_attention": False,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "num_head_channels": -1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "adm_in_channels": None,
    "use_linear_in_transformer": False,
}


def load_pack(cpu: bool) -> ModuleType:
    """Return the pack, with ComfyUI importable; without a GPU it runs on the CPU in any case.

    Raises:
        SystemExit: COMFYUI_PATH is not set.
    """
    folder = os.environ.get("COMFYUI_PATH")
    if not folder:
        raise SystemExit("Set COMFYUI_PATH to a ComfyUI folder.")
    sys.path[:] = [folder, *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT)]
    import comfy.cli_args
    import torch

    comfy.cli_args.args.cpu = cpu or not torch.cuda.is_available()
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    return module


def make_base(layout: str) -> tuple[Any, Any, Any]:
    """Return a MODEL, CLIP and VAE of SD1's layout; "sd15" has SD1.5's true size."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models
    import comfy.taesd.taesd
    import torch

    device = torch.device("cpu")
    config = comfy.supported_models.SD15({**_SD1, **LAYOUTS[layout]})
    config.set_inference_dtype(torch.float16, None)
    model = comfy.model_base.BaseModel(config, device=device)
    target = SimpleNamespace(params={}, clip=comfy.sd1_clip.SD1ClipModel, tokenizer=comfy.sd1_clip.SD1Tokenizer)
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float16})
    autoencoder = comfy.taesd.taesd.TAESD()
    for module in (model.diffusion_model, clip.cond_stage_model, autoencoder):
        _fill(module)
    with torch.no_grad():
        autoencoder.vae_scale.fill_(1.0)
        autoencoder.vae_shift.fill_(0.0)
    patcher = comfy.model_patcher.ModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=device
    )
    return patcher, clip, comfy.sd.VAE(sd=autoencoder.state_dict())


def _fill(module: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * (0.02 if "embedding" in name else parameter[0].numel() ** -0.5))
            else:
                parameter.copy_(0.02 * noise + (1.0 if name.endswith("weight") else 0.0))
