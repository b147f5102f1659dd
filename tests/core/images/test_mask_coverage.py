"""What masks leave of their images, by hand."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.images.mask_coverage import looks_inverted, mask_remarks, share_left
from torch import Tensor


def cut_out(height: int = 64, width: int = 64) -> Tensor:
    """Return a mask whose middle quarter is white."""
    mask = torch.zeros(height, width)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1.0
    return mask


@pytest.mark.parametrize(
    ("mask", "share"),
    [
        (torch.ones(64, 64), 1.0),
        (cut_out(), 0.25),
        (1.0 - cut_out(), 0.75),
        (torch.full((64, 64), 0.5), 0.5),
        (torch.full((64, 64), 7.0), 1.0),
        (torch.full((64, 64), float("nan")), 0.0),
    ],
)
def test_the_share_that_a_mask_leaves(mask: Tensor, share: float) -> None:
    assert share_left(mask, 512, 512) == pytest.approx(share)


def test_what_the_crop_takes_away_does_not_count() -> None:
    mask = torch.zeros(32, 64)
    mask[:, :16] = 1.0
    assert share_left(mask, 512, 512) == 0.0
    assert share_left(mask, 256, 512) == 0.25


@pytest.mark.parametrize(
    ("mask", "inverted"),
    [
        (cut_out(), False),
        (1.0 - cut_out(), True),
        (1.0 - cut_out(8, 9), True),
        (torch.ones(64, 64), False),
        (torch.zeros(64, 64), False),
        (torch.full((64, 64), 0.5), False),
        ((torch.arange(64) < 32).float().expand(64, 64), False),  # half a picture
        (torch.ones(1, 1), False),
    ],
)
def test_an_inverted_mask_is_white_along_the_border_and_dark_in_the_middle(mask: Tensor, inverted: bool) -> None:
    assert looks_inverted(mask) is inverted


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_disc_that_is_its_background_s_mask_is_seen_where_it_fills_a_quarter_of_the_middle(share: float) -> None:
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    disc = ((x**2 + y**2).sqrt() < 32 * (share / 3.1416) ** 0.5 * 1.1).float()
    assert looks_inverted(1.0 - disc) and not looks_inverted(disc)


def test_a_run_is_told_what_its_masks_leave() -> None:
    sizes = [(512, 512)] * 2
    assert mask_remarks([], []) == []
    assert mask_remarks([cut_out(), torch.ones(64, 64)], sizes) == ["Masks leave 62 % of the images."]


def test_a_run_is_warned_of_inverted_masks_with_the_cure() -> None:
    sizes = [(512, 512)] * 3
    share, warning = mask_remarks([cut_out(), 1.0 - cut_out(), cut_out()], sizes)
    assert share == "Masks leave 42 % of the images."
    assert warning.startswith("Mask 2 is white along the border and dark in the middle") and "InvertMask" in warning
    assert mask_remarks([1.0 - cut_out()] * 3, sizes)[1].startswith("All masks are white along the border")
    assert mask_remarks([1.0 - cut_out()], sizes[:1])[1].startswith("The mask is white along the border")


def test_a_run_is_told_of_masks_that_leave_almost_nothing_after_the_crop() -> None:
    side = torch.zeros(64, 128)
    side[:, :33] = 1.0  # a column of it is inside the centre square
    _, warning = mask_remarks([cut_out(), side], [(512, 512)] * 2)
    assert warning.startswith("Mask 2 is black nearly everywhere once the image is cropped: less than 2 % of it")
    assert len(mask_remarks([cut_out(), side], [(512, 512), (320, 640)])) == 1
    assert mask_remarks([side, side], [(512, 512)] * 2)[0] == "Masks leave 2 % of the images."
    assert mask_remarks([torch.zeros(64, 64)], [(512, 512)])[0] == "Masks leave less than 1 % of the images."
