"""Write the pipeline folder diffusers' scripts read, with the weights of a checkpoint that workbench/small_checkpoint.py made.

PYTHON_WITH_DIFFUSERS -m benchmarks.diffusers_pipeline CHECKPOINT TOKENIZER FOLDER; no network is used. A checkpoint without SD's own
autoencoder (the small one) gets a narrow one of the same layout with random weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

UNETS: dict[bool, dict[str, Any]] = {
    True: {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2},
    False: {
        "block_out_channels": (320,),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
    },
}
TEXT: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "hidden_act": "quick_gelu",
}


def make_pipeline(checkpoint: Path, tokenizer: Path, folder: Path) -> None:
    """Convert the checkpoint's networks and save them as a StableDiffusionPipeline in float32."""
    tensors = {name: value.float() for name, value in load_file(checkpoint).items()}
    full = any(name.startswith("first_stage_model.encoder.") for name in tensors)
    unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, **UNETS[full])
    unet.load_state_dict(convert_ldm_unet_checkpoint(tensors, unet.config))
    widths = (128, 256, 512, 512) if full else (32, 32, 32, 32)
    vae = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=2,
    )
    if full:
        vae.load_state_dict(convert_ldm_vae_checkpoint(tensors, vae.config))
    text = CLIPTextModel(CLIPTextConfig(**TEXT))
    prefix = "cond_stage_model.transformer."
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if not any(name.startswith("text_model.") for name in text.state_dict()):  # transformers 5
        own = {name.removeprefix("text_model."): value for name, value in own.items()}
    missing = text.load_state_dict(own, strict=False).missing_keys
    if [name for name in missing if not name.endswith("position_ids")]:
        raise SystemExit(f"The text encoder lacks {missing}.")
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    words = CLIPTokenizer.from_pretrained(str(tokenizer), model_max_length=77)
    pipeline = StableDiffusionPipeline(vae, text, words, unet, scheduler, None, None, requires_safety_checker=False)
    pipeline.save_pretrained(folder)


if __name__ == "__main__":
    torch.manual_seed(0)
    make_pipeline(*(Path(argument) for argument in sys.argv[1:4]))
