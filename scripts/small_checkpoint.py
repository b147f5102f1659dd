"""Make a checkpoint of SD1's layout that ComfyUI's stock loader takes, with random weights.

Run it in the project's environment with ComfyUI on PYTHONPATH:
python scripts/small_checkpoint.py OUT.safetensors [--full]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

SEED = 20240917
SMALL = {"channel_mult": [1], "num_res_blocks": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1]}
FULL = {
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
}
COMMON = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "transformer_depth_middle": 1,
    "legacy": False,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
}


def make_checkpoint(path: Path, full: bool) -> None:
    """Write the checkpoint: a UNet of four attention layers (or SD1.5's own sixteen), CLIP-L, and a small VAE (or SD1.5's)."""
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.ops
    import comfy.sd1_clip
    import comfy.taesd.taesd
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from safetensors.torch import save_file

    operations = comfy.ops.disable_weight_init
    generator = torch.Generator().manual_seed(SEED)
    unet = UNetModel(**COMMON, **(FULL if full else SMALL), dtype=torch.float32, operations=operations)
    clip = comfy.sd1_clip.SD1ClipModel(dtype=torch.float32)
    tensors = {f"model.diffusion_model.{k}": v for k, v in _filled(unet, generator).items()}
    text = {k.removeprefix("clip_l."): v for k, v in _filled(clip, generator).items()}
    tensors |= {f"cond_stage_model.{k}": v for k, v in text.items() if "logit_scale" not in k and "projection" not in k}
    if full:
        config = {
            "double_z": True,
            "z_channels": 4,
            "resolution": 256,
            "in_channels": 3,
            "out_ch": 3,
            "ch": 128,
            "ch_mult": [1, 2, 4, 4],
            "num_res_blocks": 2,
            "attn_resolutions": [],
            "dropout": 0.0,
        }
        vae: torch.nn.Module = AutoencoderKL(ddconfig=config, embed_dim=4)
    else:
        vae = comfy.taesd.taesd.TAESD()
    tensors |= {f"first_stage_model.{k}": v for k, v in _filled(vae, generator).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({k: v.half().contiguous() for k, v in tensors.items()}, temporary)
    temporary.replace(path)


@torch.no_grad()
def _filled(module: torch.nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    for name, parameter in module.named_parameters():
        if name in ("vae_scale", "vae_shift"):
            parameter.fill_(1.0 if name == "vae_scale" else 0.0)
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise * (0.02 if "embedding" in name else parameter[0].numel() ** -0.5))
        else:
            parameter.copy_(0.02 * noise + (1.0 if name.endswith("weight") else 0.0))
    return dict(module.state_dict())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--full", action="store_true", help="SD1.5's true size, 2.1 GB")
    given = parser.parse_args()
    sys.argv = sys.argv[:1]
    make_checkpoint(given.path, given.full)
