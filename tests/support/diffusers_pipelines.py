"""diffusers' own pipelines with the weights and the words of the tiny host models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd1_clip
import comfy.utils
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from workbench.layouts import TINY, TINY_TEXT, TINY_TEXT_G
from workbench.tiny import Tiny

TOKENS, SIDE = 9, 8
"""Rows of text and edge of the latent that a network is asked about."""


def pipeline_of(base: Tiny, family: str) -> Any:
    """Return a pipeline of "sd1", "sd2" or "sdxl" with the weights of a tiny host model, and small text encoders."""
    import diffusers

    parts = {
        "unet": network_of(base, family),
        "scheduler": diffusers.DDIMScheduler(),
        "vae": None,
        "tokenizer": _tokenizer(),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**TINY_TEXT)),
    }
    if family == "sdxl":
        second = CLIPTextModelWithProjection(CLIPTextConfig(**TINY_TEXT_G))
        return diffusers.StableDiffusionXLPipeline(**parts, tokenizer_2=_tokenizer(), text_encoder_2=second)
    return diffusers.StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None)


def network_of(base: Tiny, family: str) -> Any:
    """Return diffusers' network with a tiny host model's weights."""
    import diffusers

    layout = TINY[family]
    widths = [layout["model_channels"] * factor for factor in layout["channel_mult"]]
    depths = layout["transformer_depth"][:: layout["num_res_blocks"][0]]
    vector: dict[str, Any] = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": layout["adm_in_channels"],
    }
    network = diffusers.UNet2DConditionModel(
        block_out_channels=widths,
        cross_attention_dim=layout["context_dim"],
        down_block_types=["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        up_block_types=["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        transformer_layers_per_block=[max(depth, 1) for depth in depths],
        use_linear_projection=layout["use_linear_in_transformer"],
        attention_head_dim=8 if family == "sd1" else [width // 64 for width in widths],
        **(vector if layout["adm_in_channels"] else {}),
    )
    weights = base.model.model.diffusion_model.state_dict()
    names = comfy.utils.unet_to_diffusers(base.model.model.model_config.unet_config)
    known = {theirs: weights[ours].clone() for theirs, ours in names.items() if ours in weights}
    if layout["adm_in_channels"]:
        known = {name.replace("class_embedding", "add_embedding"): weight for name, weight in known.items()}
    network.load_state_dict(known)
    return network.eval()


@torch.no_grad()
def answer(network: Any) -> Tensor:
    """Return what a network predicts for a fixed latent and text."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 4, SIDE, SIDE, generator=generator)
    text = torch.randn(1, TOKENS, network.config.cross_attention_dim, generator=generator)
    pooled = {
        "text_embeds": torch.randn(1, TINY_TEXT_G["hidden_size"], generator=generator),
        "time_ids": torch.ones(1, 6),
    }
    given = {"added_cond_kwargs": pooled} if network.config.addition_embed_type else {}
    return network(latent, torch.tensor(500), text, **given).sample


def _tokenizer() -> Any:
    return CLIPTokenizer.from_pretrained(str(Path(comfy.sd1_clip.__file__).with_name("sd1_tokenizer")))
