"""Frozen layers that keep less for the backward pass than autograd would; values and gradients are the same, bit for bit."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.nn.grad import conv2d_input


def frozen_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any) -> Tensor:
    """Return ``F.conv2d`` in one group; only x gets a gradient, so x itself is not kept.

    Autograd keeps the input of every convolution, also of one whose weight is frozen.
    """
    result: Tensor = _FrozenConv2d.apply(x, weight, bias, stride, padding, dilation)  # type: ignore[no-untyped-call]  # torch gives Function.apply no types
    return result


def gated_gelu(projected: Tensor) -> Tensor:
    """Return x·gelu(gate) for [..., 2·D] = [x, gate]; gelu(gate) is computed again in the backward pass instead of kept."""
    result: Tensor = _GatedGelu.apply(projected)  # type: ignore[no-untyped-call]  # torch gives Function.apply no types
    return result


class _FrozenConv2d(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.how = x.shape, (stride, padding, dilation)
        return F.conv2d(x, weight, bias, *ctx.how)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return conv2d_input(ctx.size, weight, gradient, *ctx.how), None, None, None, None, None


class _GatedGelu(Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor) -> Tensor:
        ctx.save_for_backward(projected)
        x, gate = projected.chunk(2, dim=-1)
        return x * F.gelu(gate)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, gate = ctx.saved_tensors[0].chunk(2, dim=-1)
        of_gate = torch.ops.aten.gelu_backward(gradient * x, gate)
        return torch.cat([gradient * F.gelu(gate), of_gate], dim=-1)
