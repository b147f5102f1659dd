"""Tiny models whose weights are kept quantised: in the host's own formats, and as ComfyUI-GGUF keeps them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import SimpleNamespace
from typing import Any

import comfy.lora
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models as supported
import comfy.utils
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from torch import Tensor

from workbench.layouts import TINY, TINY_TEXT
from workbench.tiny import Tiny, tiny, tiny_clip

SCALED_FP8 = "scaled_fp8"
PACKED = "nvfp4"  # of half the width, by which the host would take K and V for another model's: it is for other layers
FORMATS = (
    SCALED_FP8,
    *(kind for kind in ("float8_e4m3fn", "float8_e5m2", "mxfp8", "int8_tensorwise", PACKED) if kind in QUANT_ALGOS),
)
"""What the host's loader knows: the older files with a scaled_fp8 key, and those with a comfy_quant per layer."""


OF_BLOCKS = "of blocks"
"""As ComfyUI-GGUF keeps them."""


class TinySD15(supported.SD15):
    """SD1.x as wide as the tiny models, so that the host's loader knows their files."""

    unet_config = {
        **supported.SD15.unet_config,
        "context_dim": TINY["mini"]["context_dim"],
        "model_channels": TINY["mini"]["model_channels"],
    }


@torch.inference_mode()
def quantised(kind: str, family: str = "mini", seed: int = 0) -> Tiny:
    """Return a tiny model whose linear layers the host loaded from a quantised file of one of its formats."""
    base = tiny(family, seed=seed)
    state = _plain_state(base)
    if kind == SCALED_FP8:
        file = {SCALED_FP8: torch.zeros(2, dtype=torch.float8_e4m3fn)}
        for name, weight in state.items():
            file |= _scaled_fp8(name, weight) if _is_linear(name, weight) else {name: weight}
    else:
        file = {}
        for name, weight in state.items():
            wanted = _is_linear(name, weight) and (kind != PACKED or ".attn2." not in name)
            file |= _comfy_quant(name, weight, kind) if wanted else {name: weight}
    return Tiny(_loaded(file), base.clip, base.vae)


def model_of(kind: str) -> Tiny:
    """Return a tiny model kept in one of ``FORMATS`` or ``OF_BLOCKS``."""
    return of_blocks()[0] if kind == OF_BLOCKS else quantised(kind)


@torch.inference_mode()
def dequantised(base: Tiny) -> Tiny:
    """Return the same model loaded from a file that holds the values of a quantised one as plain numbers."""
    unet = base.model.model.diffusion_model
    file = {}
    for name, weight in unet.named_parameters():
        if name.endswith(".input_scale"):
            continue
        file[name] = weight.dequantize() if isinstance(weight, QuantizedTensor) else weight.clone()
    return Tiny(_loaded(file), base.clip, base.vae)


@torch.inference_mode()
def quantised_clip(kind: str) -> tuple[Any, Any]:
    """Return a tiny CLIP whose layers the host loaded from a quantised file, and one of the same values in plain numbers."""
    same = tiny_clip("mini")
    file = {}
    for name, weight in same.cond_stage_model.state_dict().items():
        wanted = weight.ndim == 2 and ".layers." in name
        file |= _comfy_quant(name, weight, kind) if wanted else {name: weight.clone()}
    target = SimpleNamespace(params={}, clip=comfy.sd1_clip.SD1ClipModel, tokenizer=comfy.sd1_clip.SD1Tokenizer)
    options = {
        "dtype": torch.float32,
        "clip_l_model_config": TINY_TEXT,
        "quantization_metadata": {"mixed_ops": True},
    }
    text = {name.removeprefix("clip_l.transformer."): weight for name, weight in file.items()}
    clip = comfy.sd.CLIP(target, model_options=options, state_dict=[text])
    for name, weight in same.cond_stage_model.named_parameters():
        loaded = comfy.utils.get_attr(clip.cond_stage_model, name)
        weight.copy_(loaded.dequantize() if isinstance(loaded, QuantizedTensor) else loaded)
    return clip, same


class BlockType(Enum):
    """A stand-in for a type of gguf: rows of int8 behind a float32 scale."""

    Q8 = 8


class BlockTensor(Tensor):
    """A tensor as ComfyUI-GGUF's: bytes that tell another shape, and copies of which are the tensor itself."""

    tensor_type: BlockType
    tensor_shape: torch.Size
    patches: list[Any]

    @classmethod
    def of(cls, weight: Tensor) -> BlockTensor:
        """Quantise a weight row by row."""
        scale = weight.abs().amax(1, keepdim=True).float() / 127
        rows = torch.cat([scale.view(torch.uint8), (weight / scale).round().to(torch.int8).view(torch.uint8)], 1)
        tensor = rows.as_subclass(cls)
        tensor.tensor_type, tensor.tensor_shape, tensor.patches = BlockType.Q8, weight.shape, []
        return tensor

    def values(self) -> Tensor:
        rows = self.as_subclass(Tensor)
        scale, numbers = rows[:, :4].contiguous().view(torch.float32), rows[:, 4:].contiguous().view(torch.int8)
        return scale * numbers

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]  # as theirs
        return getattr(self, "tensor_shape", self.size())

    def to(self, *args: Any, **kwargs: Any) -> BlockTensor:
        new = super().to(*args, **kwargs)
        new.tensor_type, new.tensor_shape = self.tensor_type, self.tensor_shape
        new.patches = list(self.patches)
        return new

    def clone(self, *args: Any, **kwargs: Any) -> BlockTensor:
        return self

    def detach(self) -> BlockTensor:
        return self


class BlockLinear(comfy.ops.manual_cast.Linear):
    """A linear layer as ComfyUI-GGUF's: it reads its weight, and the patches that lie on it, in every call."""

    def get_weight(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        weight = tensor.values().to(dtype) if isinstance(tensor, BlockTensor) else tensor.to(dtype)
        for patches, key in getattr(tensor, "patches", []):
            weight = comfy.lora.calculate_weight(patches, weight, key)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x)
        return torch.nn.functional.linear(x, self.get_weight(self.weight, x.dtype), bias)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = torch.zeros(self.weight.shape, device="meta")
        destination[f"{prefix}temp.weight"] = torch.zeros(self.weight.shape, device="meta")
        if self.bias is not None:
            destination[f"{prefix}bias"] = self.bias


class BlockPatcher(comfy.model_patcher.ModelPatcher):
    """A model patcher as ComfyUI-GGUF's: the patches of a quantised weight are hung on its tensor."""

    def patch_weight_to_device(
        self, key: str, device_to: Any = None, inplace_update: bool = False, **kwargs: Any
    ) -> Any:
        weight = comfy.utils.get_attr(self.model, key)
        if not isinstance(weight, BlockTensor):
            return super().patch_weight_to_device(key, device_to, inplace_update, **kwargs)
        if key in self.patches:
            patched = copy.copy(weight)
            patched.patches = [(self.patches[key], key)]
            comfy.utils.set_attr_param(self.model, key, patched)
        return None

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> Any:
        if unpatch_weights:
            for weight in self.model.parameters():
                if isinstance(weight, BlockTensor):
                    weight.patches = []
        return super().unpatch_model(device_to=device_to, unpatch_weights=unpatch_weights)

    def load(self, *args: Any, force_patch_weights: bool = False, **kwargs: Any) -> Any:
        return super().load(*args, force_patch_weights=True, **kwargs)


@torch.inference_mode()
def of_blocks(family: str = "mini") -> tuple[Tiny, Tiny]:
    """Return a tiny model with ComfyUI-GGUF's kind of layers, and the model of the same values in plain numbers."""
    base, same = tiny(family), tiny(family)
    unet, other = base.model.model.diffusion_model, same.model.model.diffusion_model
    for name, module in list(unet.named_modules()):
        if not isinstance(module, torch.nn.Linear) or "transformer_blocks" not in name:
            continue
        tensor = BlockTensor.of(module.weight)
        module.__class__ = BlockLinear
        module.weight = torch.nn.Parameter(tensor, requires_grad=False)
        other.get_submodule(name).weight.copy_(tensor.values())
    patcher = BlockPatcher(base.model.model, base.model.load_device, base.model.offload_device)
    return Tiny(patcher, base.clip, base.vae), same


def _loaded(file: dict[str, Tensor]) -> Any:
    with _tiny_files_are_known():
        return comfy.sd.load_diffusion_model_state_dict(file)


@contextmanager
def _tiny_files_are_known() -> Iterator[None]:
    known = supported.models
    supported.models = [*known, TinySD15]
    try:
        yield
    finally:
        supported.models = known


def _plain_state(base: Tiny) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in base.model.model.diffusion_model.state_dict().items()}


def _is_linear(name: str, weight: Tensor) -> bool:
    return name.endswith(".weight") and weight.ndim == 2 and "transformer_blocks" in name


def _scaled_fp8(name: str, weight: Tensor) -> dict[str, Tensor]:
    layer = name.removesuffix(".weight")
    scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
    half = torch.tensor(0.5)
    return {
        name: (weight / scale).to(torch.float8_e4m3fn),
        f"{layer}.scale_weight": scale,
        f"{layer}.scale_input": half,
    }


def _comfy_quant(name: str, weight: Tensor, kind: str) -> dict[str, Tensor]:
    layout = QUANT_ALGOS[kind]["comfy_tensor_layout"]
    options = {"scale": "recalculate"} if kind.startswith("float8") else {}
    tensor = QuantizedTensor.from_float(weight, layout, **options)
    conf = json.dumps({"format": kind}).encode()
    return dict(tensor.state_dict(name)) | {
        f"{name.removesuffix('.weight')}.comfy_quant": torch.tensor(list(conf), dtype=torch.uint8)
    }
