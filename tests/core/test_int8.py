"""Weights stored as int8: the rounding by hand and against float64, and the format of whole state dicts."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.int8 import SMALLEST_SIZE, compress, decompress, restore_int8, store_int8
from torch import Tensor

SHAPES = ((3, 5), (64, 96), (8, 4, 3, 3), (2, 3, 1), (1, 1))


@pytest.fixture
def network() -> dict[str, Tensor]:
    """Every kind of tensor that a model file holds."""
    return {
        "linear.weight": torch.randn(64, 100),
        "conv.weight": torch.randn(16, 40, 3, 3) * 1e-3,
        "first.weight": torch.randn(8, 4, 3, 3),
        "linear.bias": torch.randn(64),
        "logit_scale": torch.tensor(4.5),
        "ids": torch.arange(9000).view(90, 100),
    }


def test_by_hand() -> None:
    """The scales are 127 / 127 = 1 and 0.254 / 127 = 0.002; 2.4 rounds to 2, -0.0131 is -6.55 scales and rounds to -7."""
    values, scale = store_int8(torch.tensor([[127.0, 2.4, -0.4], [0.254, -0.0131, 0.0]]))
    assert values.tolist() == [[127, 2, 0], [127, -7, 0]] and values.dtype == torch.int8
    torch.testing.assert_close(scale, torch.tensor([1.0, 0.002]))
    expected = torch.tensor([[127.0, 2.0, 0.0], [0.254, -0.014, 0.0]])
    torch.testing.assert_close(restore_int8(values, scale, torch.float32), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_float64_gives(shape: tuple[int, ...]) -> None:
    """But where the quotient is so near to a half that float32 rounds it to the other side."""
    weight = torch.randn(shape, dtype=torch.float64) * torch.logspace(-6, 3, shape[0]).view(-1, *[1] * (len(shape) - 1))
    values, scale = store_int8(weight)
    reference = weight.abs().flatten(1).amax(dim=1) / 127  # [O]
    torch.testing.assert_close(scale.double(), reference, rtol=1e-6, atol=0.0)
    quotient = weight / reference.view(-1, *[1] * (len(shape) - 1))
    certain = ((quotient - quotient.floor()) - 0.5).abs() > 1e-4
    assert torch.equal(values.double()[certain], quotient.round()[certain]) and certain.float().mean() > 0.9


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 0.0), (torch.float32, 0.0), (torch.float16, 2.0**-11)])
def test_no_value_is_further_off_than_half_a_scale(dtype: torch.dtype, rounding: float) -> None:
    weight = torch.randn(50, 400) * torch.logspace(-3, 1, 50)[:, None]
    values, scale = store_int8(weight)
    error = (restore_int8(values, scale, dtype).double() - weight.double()).abs()
    bound = scale.double()[:, None] * (0.5 + 2e-5) + weight.double().abs() * rounding * 1.01
    if dtype == torch.float16:
        bound += 2.0**-25  # half the distance of its smallest numbers
    assert (error <= bound).all()
    assert error.max() > 0.45 * scale.max()  # the bound is not far away


def test_the_largest_value_of_each_channel_comes_back_and_both_signs_are_alike() -> None:
    weight = torch.randn(20, 30)
    values, scale = store_int8(weight)
    assert (values.abs().amax(dim=1) == 127).all() and values.min() == -127
    mirrored, same = store_int8(-weight)
    assert torch.equal(mirrored, -values) and torch.equal(same, scale)


def test_channels_of_zeros_and_of_the_smallest_numbers_stay_finite() -> None:
    weight = torch.zeros(3, 4)
    weight[1] = torch.tensor([0.0, 1.0, -2.0, 0.5])
    weight[2] = 1e-45
    values, scale = store_int8(weight)
    restored = restore_int8(values, scale, torch.float32)
    assert scale[0] == 0 and torch.equal(restored[0], weight[0])
    assert torch.isfinite(restored).all() and restored[2].abs().max() < 1e-40


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_values_that_are_no_finite_numbers_are_refused(bad: float) -> None:
    weight = torch.ones(2, 3, dtype=torch.float64)
    weight[1, 2] = bad
    with pytest.raises(ValueError, match="not finite numbers of torch.float32"):
        store_int8(weight)


@pytest.mark.parametrize("weight", [torch.ones(5), torch.tensor(1.0), torch.ones(2, 3).int(), torch.ones(0, 3)])
def test_what_has_no_output_channels_is_refused(weight: Tensor) -> None:
    with pytest.raises(ValueError, match="output channels first"):
        store_int8(weight)


def test_large_weights_are_compressed_and_all_else_is_float16(network: dict[str, Tensor]) -> None:
    stored = compress(network)
    kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in stored.items()}
    assert kinds == {
        "linear.weight": (torch.int8, (64, 100)),
        "linear.weight_scale": (torch.float32, (64,)),
        "conv.weight": (torch.int8, (16, 40, 3, 3)),
        "conv.weight_scale": (torch.float32, (16,)),
        "first.weight": (torch.float16, (8, 4, 3, 3)),
        "linear.bias": (torch.float16, (64,)),
        "logit_scale": (torch.float16, ()),
        "ids": (torch.int64, (90, 100)),
    }
    assert torch.equal(stored["ids"], network["ids"])


def test_int8_is_used_only_where_it_is_smaller() -> None:
    wide, narrow = torch.randn(SMALLEST_SIZE // 5 + 1, 5), torch.randn(SMALLEST_SIZE, 4)
    stored = compress({"wide": wide, "narrow": narrow})
    assert stored["wide"].dtype == torch.int8 and stored["narrow"].dtype == torch.float16
    assert sum(stored[name].nbytes for name in ("wide", "wide_scale")) < wide.half().nbytes


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_state_dict_comes_back(network: dict[str, Tensor], dtype: torch.dtype) -> None:
    restored = decompress(compress(network), dtype)
    assert restored.keys() == network.keys()
    for name, tensor in network.items():
        assert restored[name].shape == tensor.shape
        assert restored[name].dtype == (dtype if tensor.is_floating_point() else tensor.dtype)
        step = tensor.abs().flatten(1).amax(dim=1).max() / 127 if name in ("linear.weight", "conv.weight") else 0.0
        torch.testing.assert_close(restored[name].to(tensor.dtype), tensor, rtol=1e-3, atol=float(step) * 0.51)


def test_what_was_never_compressed_comes_back_as_it_is(network: dict[str, Tensor]) -> None:
    same = decompress(network, torch.float32)
    assert all(torch.equal(same[name], tensor) for name, tensor in network.items())


def test_what_is_compressed_already_is_told(network: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="linear.weight is int8 or named as a scale"):
        compress(compress(network))
    with pytest.raises(ValueError, match="layer_scale is int8 or named as a scale"):
        compress({"layer_scale": torch.ones(4)})


@pytest.mark.parametrize("weight", [torch.ones(64, 100), torch.ones(3)])
def test_a_scalar_that_would_be_taken_for_a_scale_is_told(weight: Tensor) -> None:
    """However the weight is stored; without such a weight it is an ordinary scalar."""
    for tensors in (
        {"logit": weight, "logit_scale": torch.tensor(4.5)},
        {"logit_scale": torch.tensor(4.5), "logit": weight},
    ):
        with pytest.raises(ValueError, match="logit_scale is int8 or named as a scale"):
            compress(tensors)


@pytest.mark.parametrize("name", ["linear.weight", "linear.bias"])
def test_a_tensor_that_cannot_be_stored_is_named(network: dict[str, Tensor], name: str) -> None:
    network[name].flatten()[3] = float("inf")
    with pytest.raises(ValueError, match=f"{name} cannot be stored: it holds values that are not finite"):
        compress(network)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"linear.weight": None}, "linear.weight_scale is a scale, but there is no linear.weight"),
        ({"linear.weight_scale": None}, "linear.weight is int8, but there is no linear.weight_scale"),
        ({"linear.weight_scale": torch.ones(63)}, r"linear.weight_scale must be torch.float32 \[64\], not .* \[63\]"),
        ({"linear.weight_scale": torch.tensor(1.0)}, r"linear.weight_scale must be torch.float32 \[64\]"),
        ({"linear.weight_scale": torch.ones(64).half()}, "linear.weight_scale must be torch.float32"),
        ({"linear.weight": torch.ones(64, 100)}, "linear.weight has a scale, so it must be int8"),
        ({"linear.weight": torch.ones(64, dtype=torch.int8)}, r"linear.weight has a scale.*torch.int8 \[64\]"),
        ({"linear.weight": torch.ones(63, 100, dtype=torch.int8)}, r"linear.weight_scale must be torch.float32 \[63\]"),
    ],
)
def test_a_damaged_state_dict_is_told(network: dict[str, Tensor], change: dict[str, Tensor | None], told: str) -> None:
    stored = {name: tensor for name, tensor in {**compress(network), **change}.items() if tensor is not None}
    with pytest.raises(ValueError, match=told):
        decompress(stored)
