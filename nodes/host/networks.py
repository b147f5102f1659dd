"""Private, trainable copies of the host's networks. Nothing of the host is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import comfy.clip_model
import comfy.model_management
import comfy.ops
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ...dci_core.clip_text import ClipTextTransformer
from ...dci_core.errors import UserInputError
from ...dci_core.training import TextConditioning, detach_first_token
from .families import Family
from .weights import UNET_PREFIX, key_value_weights, patched_weight, patched_weights

EMBEDDINGS = "text_model.embeddings.token_embedding.weight"


class HostDenoiser:
    """A private, frozen copy of the host's UNet whose cross-attention K and V weights can be trained.

    Args:
        model: the host MODEL; its LoRAs are part of the copy.
        device: to train on.
        size_px: edge of the training images, which SDXL is told.
    """

    def __init__(self, model: Any, device: torch.device, size_px: int) -> None:
        self._model = model
        self._size_px = size_px
        self._compute_dtype = _compute_dtype(device)
        config = dict(model.model.model_config.unet_config)
        stored = torch.float32 if device.type == "cpu" else config.get("dtype") or torch.float32
        config |= {"dtype": stored, "operations": comfy.ops.manual_cast, "device": device}
        self.unet = UNetModel(**config).eval()
        with torch.no_grad():
            state = self.unet.state_dict()
            for name, weight in _unet_weights(model):
                state.pop(name).copy_(weight)
        if state:
            raise UserInputError(f"The model lacks the weight {next(iter(state))}. Load a complete checkpoint.")
        self.unet.requires_grad_(False)
        self.key_values: dict[str, nn.Parameter] = {}
        for name in key_value_weights(model):
            module = self.unet.get_submodule(name.removeprefix(UNET_PREFIX))
            module.weight = nn.Parameter(module.weight.detach().float())
            module.register_forward_hook(lambda _module, _inputs, output: detach_first_token(output))
            self.key_values[name] = module.weight

    def __call__(self, noisy: Tensor, timesteps: Tensor, text: TextConditioning) -> Tensor:
        """Predict from x_t; see ``dci_core.training.Denoiser``."""
        y = None
        if text.pooled is not None:
            size = {"width": self._size_px, "height": self._size_px, "device": noisy.device}
            y = self._model.model.encode_adm(pooled_output=text.pooled, **size).to(noisy.device, self._compute_dtype)
        options = {"optimized_attention_override": lambda _chosen, *args, **kwargs: attention_pytorch(*args, **kwargs)}
        predicted = self.unet(
            noisy.to(self._compute_dtype),
            timesteps.float(),
            context=text.context.to(self._compute_dtype),
            y=y,
            transformer_options=options,
        )
        return predicted.float()

    def initial_key_values(self) -> dict[str, Tensor]:
        """Return the K and V weights the copy started from."""
        entries = self._model.get_key_patches(UNET_PREFIX)
        return {name: patched_weight(f"{name}.weight", entries[f"{name}.weight"]) for name in self.key_values}


class HostPromptEncoder:
    """The family's text encoders, differentiable in their input embeddings."""

    def __init__(self, encoders: Mapping[str, ClipTextTransformer], family: Family) -> None:
        self._encoders = encoders
        self._pooled_from = "clip_g" if "clip_g" in family.text_encoders else None

    def __call__(self, prompts: Mapping[str, Tensor], end_position: int) -> TextConditioning:
        """Encode prompts; see ``dci_core.training.PromptEncoder``."""
        contexts, pooled = [], None
        for name, encoder in self._encoders.items():
            context, vector = encoder.encode(prompts[name], end_position, with_pooled=name == self._pooled_from)
            contexts.append(context)
            pooled = vector if vector is not None else pooled
        return TextConditioning(torch.cat(contexts, dim=-1), pooled)


def text_encoder(clip: Any, name: str) -> ClipTextTransformer:
    """Return a differentiable text encoder on private copies of the host's weights, clip skip included."""
    module = getattr(clip.cond_stage_model, name)
    layer = module.transformer.text_model.encoder.layers[0]
    quick = layer.mlp.activation is comfy.clip_model.ACTIVATIONS["quick_gelu"]
    clip.cond_stage_model.reset_clip_options()
    if clip.layer_idx is not None:
        clip.cond_stage_model.set_clip_options({"layer": clip.layer_idx})
    output_layer = None if module.layer == "last" else module.layer_idx
    clip.cond_stage_model.reset_clip_options()
    return ClipTextTransformer(
        weights=patched_weights(clip.patcher, f"{name}.transformer."),
        heads=layer.self_attn.heads,
        gelu="quick_gelu" if quick else "gelu",
        output_layer=output_layer,
        normalize_output=module.layer_norm_hidden_state,
    )


def without_vocabulary(encoder: ClipTextTransformer, device: torch.device) -> ClipTextTransformer:
    """Return the encoder on a device, without its large table of word embeddings."""
    weights = {name: weight.to(device) for name, weight in encoder.weights.items() if name != EMBEDDINGS}
    return ClipTextTransformer(weights, encoder.heads, encoder.gelu, encoder.output_layer, encoder.normalize_output)


def _compute_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type != "cpu" and comfy.model_management.should_use_bf16(device) else torch.float32


def _unet_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    for key, entry in model.get_key_patches(UNET_PREFIX).items():
        yield key.removeprefix(UNET_PREFIX), patched_weight(key, entry)
