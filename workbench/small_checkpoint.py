"""Make a checkpoint of SD1's layout that ComfyUI's stock loader takes, with random weights.

COMFYUI_PATH=… python -m workbench.small_checkpoint OUT.safetensors [--full]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from comfyui_dci.dci_core.files import write_atomically
from safetensors.torch import save_file

from workbench.layouts import ONE_LEVEL, SD15
from workbench.pack import import_host
from workbench.weights import fill

SEED = 20240917
TAESD_FIXED = {"vae_scale": 1.0, "vae_shift": 0.0}
AUTOENCODER: dict[str, Any] = {
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


def make_checkpoint(path: Path, full: bool) -> None:
    """Write the checkpoint: a UNet of four attention layers, CLIP-L and a small VAE, or all of SD1.5's true size.

    Args:
        path: of the file.
        full: SD1.5's own sixteen attention layers and its own VAE.
    """
    import comfy.ops
    import comfy.sd1_clip
    import comfy.taesd.taesd
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    generator = torch.Generator().manual_seed(SEED)
    operations = comfy.ops.disable_weight_init
    unet = UNetModel(**(SD15 if full else ONE_LEVEL), dtype=torch.float32, operations=operations)
    clip = comfy.sd1_clip.SD1ClipModel(dtype=torch.float32)
    tensors = {f"model.diffusion_model.{k}": v for k, v in _filled(unet, generator).items()}
    text = {k.removeprefix("clip_l."): v for k, v in _filled(clip, generator).items()}
    tensors |= {f"cond_stage_model.{k}": v for k, v in text.items() if "logit_scale" not in k and "projection" not in k}
    vae = AutoencoderKL(ddconfig=AUTOENCODER, embed_dim=4) if full else comfy.taesd.taesd.TAESD()
    tensors |= {f"first_stage_model.{k}": v for k, v in _filled(vae, generator).items()}
    halves = {k: v.half().contiguous() for k, v in tensors.items()}
    write_atomically(path, lambda temporary: save_file(halves, temporary))


def _filled(module: torch.nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    fill(module, generator, fixed=TAESD_FIXED)
    return dict(module.state_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--full", action="store_true", help="SD1.5's true size, 2.1 GB")
    given = parser.parse_args()
    import_host(cpu=True)
    make_checkpoint(given.path, given.full)


if __name__ == "__main__":
    main()
