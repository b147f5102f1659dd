"""Private, trainable copies of the host's networks. Nothing of the host is changed."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import comfy.clip_model
import comfy.model_management
import comfy.ops
import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import GEGLU, BasicTransformerBlock, attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ....dci_core.training.clip_text import ClipTextTransformer
from ....dci_core.training.data import TextConditioning
from ....dci_core.training.frozen_layers import frozen_conv2d, gated_gelu
from ....dci_core.training.model import detach_first_token
from ....dci_core.training.settings import Precision, TrainingSettings
from ..model import HostModel
from ..weights import UNET_PREFIX, cross_attention_weights, patched_weight, patched_weights, weight_entry

KEY_VALUE_NAMES = (".attn2.to_k", ".attn2.to_v")
DOWN, UP = ".down", ".up"
EMBEDDINGS = "text_model.embeddings.token_embedding.weight"


class HostDenoiser:
    """A private, frozen copy of the host's UNet whose cross-attention projections can be trained.

    Args:
        base: whose network is copied; LoRAs on it are part of the copy.
        device: to train on.
        settings: mode, rank, precision, gradient checkpointing and seed are used.
    """

    def __init__(self, base: HostModel, device: torch.device, settings: TrainingSettings) -> None:
        self._model = base.model
        self._pixels_per_latent = base.family.pixels_per_latent
        self._rank = settings.rank
        self._compute_dtype = _compute_dtype(settings.precision, device)
        self.unet = _copy_of(base.model, self._compute_dtype, device)
        self.projections: dict[str, nn.Parameter] = {}
        self.key_value_norms: dict[str, float] = {}
        self._modules = cross_attention_weights(base.model, settings.mode.projections)
        generator = torch.Generator().manual_seed(settings.seed)
        for name in self._modules:
            module = self.unet.get_submodule(name.removeprefix(UNET_PREFIX))
            original = _weight_of(base.model, f"{name}.weight")
            trained = _low_rank(module, settings.rank, generator) if settings.rank else _whole(module, original)
            self.projections |= {f"{name}{part}": parameter for part, parameter in trained.items()}
            if name.endswith(KEY_VALUE_NAMES):
                self.key_value_norms[name] = float(torch.linalg.vector_norm(original.float()))
                module.register_forward_hook(lambda _module, _inputs, output: detach_first_token(output))
        _keep_less_for_backward(self.unet)
        if settings.gradient_checkpointing:
            _recompute_in_backward(self.unet)

    def __call__(self, noisy: Tensor, timesteps: Tensor, text: TextConditioning) -> Tensor:
        """Predict from x_t; see ``dci_core.training.model.Denoiser``."""
        y = None
        if text.pooled is not None:
            height, width = (edge * self._pixels_per_latent for edge in noisy.shape[-2:])
            size = {"width": width, "height": height, "device": noisy.device}
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

    def deltas(self) -> dict[str, Tensor]:
        """Return what training added to each weight; see ``dci_core.training.model.Denoiser``."""
        trained = {name: parameter.detach().cpu() for name, parameter in self.projections.items()}
        if self._rank:
            return {name: trained[name + UP] @ trained[name + DOWN] for name in self._modules}
        return {name: trained[name] - _weight_of(self._model, f"{name}.weight").float() for name in self._modules}


class HostPromptEncoder:
    """A family's text encoders, differentiable in their input embeddings.

    Args:
        encoders: by name, in the order their outputs are concatenated.
        pooled_from: the one that gives the pooled vector; None gives none.
    """

    def __init__(self, encoders: Mapping[str, ClipTextTransformer], pooled_from: str | None) -> None:
        self._encoders = encoders
        self._pooled_from = pooled_from

    def __call__(self, prompts: Mapping[str, Tensor], end_positions: Sequence[int]) -> TextConditioning:
        """Encode prompts; see ``dci_core.training.model.PromptEncoder``."""
        contexts, pooled = [], None
        for name, encoder in self._encoders.items():
            context, vector = encoder.encode(prompts[name], end_positions, with_pooled=name == self._pooled_from)
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


def without_vocabulary(encoder: ClipTextTransformer, device: torch.device, recompute: bool) -> ClipTextTransformer:
    """Return the encoder on a device, without its large table of word embeddings.

    On a CPU the weights become float32 once, instead of in every step.
    """
    dtype = torch.float32 if device.type == "cpu" else None
    weights = {name: weight.to(device, dtype) for name, weight in encoder.weights.items() if name != EMBEDDINGS}
    return replace(encoder, weights=weights, recompute=recompute)


def _copy_of(model: Any, dtype: torch.dtype, device: torch.device) -> UNetModel:
    """Return a frozen copy of a MODEL's UNet, with the LoRAs on it, that computes in ``dtype``.

    Raises:
        UserInputError: the model lacks a weight.
    """
    config = dict(model.model.model_config.unet_config)
    config |= {"dtype": dtype, "operations": comfy.ops.manual_cast, "device": device}
    unet = UNetModel(**config).eval()
    with torch.no_grad():
        for name, weight in unet.state_dict().items():
            weight.copy_(_weight_of(model, UNET_PREFIX + name))
    return unet.requires_grad_(False)


def _whole(module: nn.Linear, original: Tensor) -> dict[str, nn.Parameter]:
    """Make the module's weight trainable in float32, free of the rounding to the network's precision."""
    module.weight = nn.Parameter(original.float().to(module.weight.device))
    return {"": module.weight}


def _low_rank(module: nn.Linear, rank: int, generator: torch.Generator) -> dict[str, nn.Parameter]:
    """Add up·down to the module's frozen weight; up starts at 0, down uniform in ±1/√in."""
    out_features, in_features = module.weight.shape
    device, rank = module.weight.device, min(rank, out_features, in_features)
    drawn = (torch.rand(rank, in_features, generator=generator) * 2.0 - 1.0) * in_features**-0.5
    down, up = nn.Parameter(drawn.to(device)), nn.Parameter(torch.zeros(out_features, rank, device=device))

    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + F.linear(F.linear(inputs[0], down.to(inputs[0])), up.to(inputs[0]))

    module.register_forward_hook(add)
    return {DOWN: down, UP: up}


def _keep_less_for_backward(unet: nn.Module) -> None:
    """Let frozen convolutions and gated activations keep less for the backward pass, at the same results."""
    for module in unet.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros":
            forward = functools.partial(
                frozen_conv2d, stride=module.stride, padding=module.padding, dilation=module.dilation
            )
            module._conv_forward = forward  # type: ignore[method-assign]  # of this layer alone, which is the run's own
        elif isinstance(module, GEGLU):
            module.forward = functools.partial(_gated, module.proj)


def _gated(projection: nn.Module, x: Tensor) -> Tensor:
    return gated_gelu(projection(x))


def _recompute_in_backward(unet: nn.Module) -> None:
    for module in unet.modules():
        if isinstance(module, BasicTransformerBlock | ResBlock):
            # a module that held itself would keep the copy in memory after the run
            forward = functools.partial(type(module).forward, weakref.proxy(module))
            module.forward = functools.partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)


def _compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision is Precision.AUTO:
        bf16 = device.type != "cpu" and comfy.model_management.should_use_bf16(device)
        return torch.bfloat16 if bf16 else torch.float32
    return {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16, Precision.FP32: torch.float32}[precision]


def _weight_of(model: Any, key: str) -> Tensor:
    return patched_weight(key, weight_entry(model, key))
