"""Frozen layers give autograd's own values and gradients, and keep less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from comfyui_dci.dci_core.training.frozen_layers import frozen_conv2d, gated_gelu
from torch import Tensor

CONVOLUTIONS = {
    "3x3": (3, 1, 1, 1),
    "1x1": (1, 1, 0, 1),
    "down": (3, 2, 1, 1),
    "dilated": (3, 1, 2, 2),
}


def run(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return value, gradient of x, and the bytes kept between the passes beyond x's producer."""
    leaf = x.clone().requires_grad_()
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = function(leaf * 1.5)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y))
    assert leaf.grad is not None
    return y.detach(), leaf.grad, sum(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", list(CONVOLUTIONS))
def test_a_frozen_convolution_gives_the_same_bits_and_keeps_only_its_weight(name: str, dtype: torch.dtype) -> None:
    size, stride, padding, dilation = CONVOLUTIONS[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 16, 12, 10, generator=generator).to(dtype)
    weight = (0.1 * torch.randn(24, 16, size, size, generator=generator)).to(dtype)
    bias = torch.randn(24, generator=generator).to(dtype)
    how = ((stride, stride), (padding, padding), (dilation, dilation))
    value, gradient, kept = run(lambda x: frozen_conv2d(x, weight, bias, *how), x)
    plain, plain_gradient, plain_kept = run(lambda x: F.conv2d(x, weight, bias, *how), x)
    assert torch.equal(value, plain) and torch.equal(gradient, plain_gradient)
    assert plain_kept - kept == x.numel() * x.element_size()
    without = run(lambda x: frozen_conv2d(x, weight, None, *how), x)
    assert torch.equal(without[1], gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gated_gelu_gives_the_same_bits_and_keeps_a_third_less(dtype: torch.dtype) -> None:
    x = torch.randn(2, 7, 64, generator=torch.Generator().manual_seed(1)).to(dtype)

    def plain(projected: Tensor) -> Tensor:
        value, gate = projected.chunk(2, dim=-1)
        return value * F.gelu(gate)

    value, gradient, kept = run(gated_gelu, x)
    expected, expected_gradient, plain_kept = run(plain, x)
    assert torch.equal(value, expected) and torch.equal(gradient, expected_gradient)
    assert kept * 3 == plain_kept * 2


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    x, weight = torch.randn(1, 3, 4, 4), torch.randn(5, 3, 1, 1)
    assert not frozen_conv2d(x, weight, None, 1, 0, 1).requires_grad
    assert not gated_gelu(torch.randn(2, 8)).requires_grad
