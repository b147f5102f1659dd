"""A mask on its way to a layer: cell means by hand, crops, and no change where it is white."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.dbim import add_outputs, limit_weight
from comfyui_dci.dci_core.sampling.region import check_region, region_at, region_of_map


def test_each_cell_is_the_mean_of_what_it_covers() -> None:
    mask = torch.tensor([[[0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.5, 0.5]]])
    assert torch.equal(region_at(mask, (1, 2), 1), torch.tensor([[[0.5, 0.25]]]))
    assert torch.equal(region_at(mask, (4, 4), 1)[0, 2:], mask[0, 1].expand(2, 4))  # a smaller mask grows


def test_masks_are_used_again_when_there_are_more_images() -> None:
    masks = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    assert region_at(masks, (2, 2), 3)[:, 0, 0].tolist() == [0.0, 1.0, 0.0]
    assert region_at(masks, (2, 2), 1)[:, 0, 0].tolist() == [0.0]


def test_a_layer_sees_its_own_size_and_its_own_part() -> None:
    region = torch.arange(16.0).view(1, 4, 4)
    assert region_of_map(region, (2, 2)).tolist() == [[2.5, 4.5, 10.5, 12.5]]
    assert region_of_map(region, (2, 1), area=(2, 1, 1, 3)).tolist() == [[7.0, 11.0]]
    assert region_of_map(region, (1, 1), area=(2, 2, 2, 2)).tolist() == [[12.5]]


@pytest.mark.parametrize("size", [(512, 512), (7, 13), (1, 1)])
def test_white_stays_exactly_white_and_black_black(size: tuple[int, int]) -> None:
    for value in (0.0, 1.0):
        region = region_at(torch.full((1, *size), value), (67, 50), 2)
        assert (region == value).all() and (region_of_map(region, (9, 7)) == value).all()


def test_limiting_scales_every_head_of_a_pixel() -> None:
    weight = torch.tensor([[[0.5, 0.4], [1.0, 0.2]]])  # two heads, two pixels
    assert torch.allclose(limit_weight(weight, torch.tensor([[0.5, 0.0]])), torch.tensor([[[0.25, 0], [0.5, 0]]]))
    assert limit_weight(weight, None) is weight and torch.equal(limit_weight(weight, torch.ones(1, 2)), weight)


def test_a_filter_s_overshoot_is_brought_back() -> None:
    mask = torch.tensor([[-0.2, 0.0, 0.5], [1.0, 1.0000001, 1.25]])
    assert check_region(mask).tolist() == [[[0.0, 0.0, 0.5], [1.0, 1.0, 1.0]]]


@pytest.mark.parametrize("average", [False, True])
def test_outputs_are_added_within_the_region_only(average: bool) -> None:
    c, a = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    limited = add_outputs(c, a, average, torch.tensor([[0.0, 1.0, 0.5]]))
    assert torch.equal(limited[:, 0], c[:, 0])
    assert torch.equal(limited[:, 1], add_outputs(c, a, average)[:, 1])
    expected = c[:, 2] + 0.5 * (add_outputs(c, a, average)[:, 2] - c[:, 2])
    torch.testing.assert_close(limited[:, 2], expected)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(1, 4, 4, 3), "shape .1, 4, 4, 3.; expected masks × height × width"),
        (torch.zeros(0, 4, 4), "shape .0, 4, 4."),
        (torch.full((4, 4), 1.5), "values from 1.5 to 1.5; between 0"),
        (torch.full((4, 4), -0.5), "values from -0.5"),
        (torch.full((4, 4), float("nan")), "values from nan"),
    ],
)
def test_what_is_no_mask_is_refused(mask: torch.Tensor, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        check_region(mask)


def test_a_single_mask_may_lack_its_batch() -> None:
    assert check_region(torch.ones(4, 6, dtype=torch.float16)).shape == (1, 4, 6)
