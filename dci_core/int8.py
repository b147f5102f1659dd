"""Weights stored in one byte a value: int8 with a scale per output channel, and whole state dicts of them.

The format: a weight ``name`` [O, ...] is kept as ``name``, int8 [O, ...], and ``name_scale``, float32 [O]; its value is their
product, channel by channel. Every other tensor of floating point numbers is float16, and integers stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LARGEST = 127
"""Int8 values reach from -127 to 127; -128 is not used, so that both signs are alike."""
SMALLEST_SIZE = 4096
"""Values of the smallest weight that is stored as int8. The first and last layers of a network are below, weigh nothing and show most."""
SCALE = "_scale"


def store_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight to int8 values and a scale per output channel; the largest value of a channel becomes ±127.

    Args:
        weight: [O, ...] with two or more dimensions, floating point.

    Returns:
        The values, int8 [O, ...], and the scale, float32 [O], 0 or more. But for float32's own rounding, no product of
        the two is further than half the channel's scale from the weight; a channel of zeros has scale 0 and comes back
        exactly.

    Raises:
        ValueError: fewer dimensions, no values, integers, or values that are no finite float32 numbers.
    """
    if weight.ndim < 2 or not weight.numel() or not weight.is_floating_point():
        raise ValueError(
            f"A weight of shape {list(weight.shape)} and type {weight.dtype} cannot be stored as int8. Give floating "
            "point numbers of two or more dimensions, output channels first."
        )
    _check_finite(exact := weight.detach().float())
    scale = exact.flatten(1).abs().amax(dim=1) / LARGEST  # [O]
    divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (exact / _by_channel(divisor, exact)).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


def restore_int8(values: Tensor, scale: Tensor, dtype: torch.dtype = torch.float16) -> Tensor:
    """Return the weight that int8 values and a scale stand for.

    Args:
        values: int8 [O, ...].
        scale: float32 [O].
        dtype: of the result; the product is rounded to it once.

    Returns:
        [O, ...] of ``dtype``.
    """
    return (values.float() * _by_channel(scale, values)).to(dtype)


def compress(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in the format above.

    Stored as int8 are floating point tensors of two or more dimensions and at least ``SMALLEST_SIZE`` values, where
    that is smaller than float16.

    Args:
        tensors: by name. A name that ends in "_scale" is left to scalars, such as CLIP's ``logit_scale``, and no other
            tensor may have the name without it.

    Raises:
        ValueError: a tensor has a scale's name, is int8 already, or holds values that are no finite numbers; it is named.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        paired = name.endswith(SCALE) and name.removesuffix(SCALE) in tensors
        if tensor.dtype == torch.int8 or _is_scale(name, tensor) or paired:
            raise ValueError(
                f"{name} is int8 or named as a scale is, so it seems compressed already. Decompress it first."
            )
        try:
            if _pays(tensor):
                stored[name], stored[name + SCALE] = store_int8(tensor)
            else:
                stored[name] = _float16(tensor)
        except ValueError as error:
            raise ValueError(f"{name} cannot be stored: {error}") from error
    return stored


def decompress(tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """Return the state dict that was compressed; one that never was comes back as it is, but for the type.

    Args:
        tensors: as ``compress`` returns them.
        dtype: of all floating point tensors of the result.

    Raises:
        ValueError: values have no scale, a scale has no values, or either has another shape or type than the format
            says; the tensor is named.
    """
    lost = [
        name for name, tensor in tensors.items() if _is_scale(name, tensor) and name.removesuffix(SCALE) not in tensors
    ]
    if lost:
        raise ValueError(f"{lost[0]} is a scale, but there is no {lost[0].removesuffix(SCALE)}")
    restored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in tensors:
            continue
        if tensor.dtype == torch.int8 or name + SCALE in tensors:
            restored[name] = restore_int8(tensor, _scale_of(name, tensors), dtype)
        else:
            restored[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return restored


def _scale_of(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the scale of a weight, after checking that both are what the format says."""
    values, scale = tensors[name], tensors.get(name + SCALE)
    if values.dtype != torch.int8 or values.ndim < 2:
        raise ValueError(f"{name} has a scale, so it must be int8 of two or more dimensions, not {_looks(values)}")
    if scale is None:
        raise ValueError(f"{name} is int8, but there is no {name}{SCALE}")
    if scale.dtype != torch.float32 or scale.shape != values.shape[:1]:
        raise ValueError(f"{name}{SCALE} must be torch.float32 [{len(values)}], not {_looks(scale)}")
    return scale


def _looks(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _is_scale(name: str, tensor: Tensor) -> bool:
    return name.endswith(SCALE) and tensor.ndim > 0


def _pays(tensor: Tensor) -> bool:
    """Whether int8 is meant for a tensor, and a byte less for each value is worth a scale of four bytes for each channel."""
    if not tensor.is_floating_point() or tensor.ndim < 2 or tensor.numel() < SMALLEST_SIZE:
        return False
    return tensor.numel() > 4 * len(tensor)


def _float16(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    _check_finite(half := tensor.detach().half())
    return half


def _check_finite(tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"it holds values that are not finite numbers of {tensor.dtype}. Train again, or repair them.")


def _by_channel(scale: Tensor, like: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (like.ndim - 1))  # [O, 1, ...]
