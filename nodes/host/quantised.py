"""Quantised weights: what they hold, and their values. Of the host's own formats, and of packs that bring layers of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn

from ...dci_core.errors import UserInputError

Converter = Callable[..., Tensor]


def quantisation_of(module: Any, weight: Tensor) -> str:
    """Return the name of the format a layer's weight is kept in, such as "float8_e4m3fn" or "Q8_0"; "" for plain numbers."""
    if isinstance(weight, QuantizedTensor):
        return str(getattr(module, "quant_format", None) or weight._layout_cls)
    if _has_own_values(weight):
        return type(weight).__name__
    if weight.is_floating_point():
        return ""
    kind = getattr(weight, "tensor_type", weight.dtype)  # ComfyUI-GGUF's tensors name their type
    return str(getattr(kind, "name", kind)).removeprefix("torch.")


def is_plain(weight: Tensor) -> bool:
    """Whether a weight is an ordinary tensor of numbers."""
    return type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()


def stored_tensors(name: str, weight: Tensor) -> list[tuple[str, Tensor]]:
    """Return what a weight is kept as, by name: itself, or its quantised values and their scales; the same on every machine."""
    if isinstance(weight, QuantizedTensor):
        return [(part, torch.atleast_1d(tensor)) for part, tensor in weight.state_dict(name).items()]
    return [(name, weight if _is_of_torch(weight) else weight.as_subclass(Tensor))]


def private_copy(weight: Tensor) -> Tensor:
    """Return a copy of a weight on the CPU, for the converter of ``converter_of``.

    Of a tensor class of another pack only the outer object is copied: its ``clone`` may give the tensor itself.
    """
    if _is_of_torch(weight) or isinstance(weight, QuantizedTensor):
        return weight.detach().clone().cpu()
    return copy.copy(weight)


def converter_of(key: str, module: Any, convert: Converter | None) -> Converter:
    """Return what turns a private copy of a layer's weight into plain numbers.

    Args:
        key: of the weight, for errors.
        module: the layer.
        convert: the host's own converter of that weight, if there is one.
    """

    def values(weight: Tensor, inplace: bool = False) -> Tensor:
        try:
            plain = _values(module, weight if convert is None else convert(weight, inplace=inplace))
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            raise _unreadable(key, module, weight, str(error).partition("\n")[0]) from error
        if key.endswith(".weight") and not plain.is_floating_point():
            raise _unreadable(key, module, weight, f"its values are {plain.dtype}")
        return plain

    return values


def _values(module: Any, weight: Tensor) -> Tensor:
    if _has_own_values(weight):
        return weight.dequantize()
    if _is_of_torch(weight):
        return weight
    if hasattr(weight, "patches") and hasattr(module, "get_weight"):  # as ComfyUI-GGUF's layers read theirs
        weight.patches = []  # of the copy: those of a model that is loaded
        weight = module.get_weight(weight, torch.float32)
    return weight.as_subclass(Tensor).detach().clone().cpu()


def _is_of_torch(weight: Tensor) -> bool:
    return type(weight) in (Tensor, nn.Parameter)


def _has_own_values(weight: Tensor) -> bool:
    """Whether a tensor class knows how to turn itself into numbers; torch's own method takes any bytes for numbers."""
    return type(weight).dequantize is not Tensor.dequantize


def _unreadable(key: str, module: Any, weight: Tensor, reason: str) -> UserInputError:
    return UserInputError(
        f"The weight {key} is quantised ({quantisation_of(module, weight) or type(weight).__name__}) in a way that "
        f"cannot be turned back into numbers ({reason}). Load an fp16, bf16 or fp32 file of the same checkpoint."
    )
