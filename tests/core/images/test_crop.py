"""The centre square of a reference image."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.images.crop import (
    bucket_of,
    center_crop,
    center_square,
    has_alpha,
    image_of_thumbnail,
    is_one_colour,
    latent_mask,
    on_white,
    thumbnail,
    thumbnail_of,
)


def test_a_square_of_the_right_size_is_returned_unchanged() -> None:
    image = torch.rand(16, 16, 3)
    assert torch.equal(center_square(image, 16), image)


def test_the_middle_of_a_wide_image_is_cut_out() -> None:
    image = torch.rand(8, 20, 3)
    assert torch.equal(center_square(image, 8), image[:, 6:14])


def test_the_middle_of_a_tall_image_is_cut_out() -> None:
    image = torch.rand(13, 8, 3)
    assert torch.equal(center_square(image, 8), image[2:10])


def test_what_is_transparent_is_laid_on_white() -> None:
    image = torch.tensor([0.0, 1.0, 0.5, 1.0]).repeat(8, 8, 1)
    image[2, 3, 3], image[4, 4, 3] = 0.0, 0.25
    square = center_square(image, 8)
    assert square[0, 0].tolist() == [0.0, 1.0, 0.5]
    assert square[2, 3].tolist() == [1.0, 1.0, 1.0]
    assert square[4, 4].tolist() == [0.75, 1.0, 0.875]


def test_alpha_that_hides_nothing_changes_no_bit_and_of_other_channels_three_are_taken() -> None:
    image = torch.rand(8, 8, 4)
    image[..., 3] = 1.0
    assert torch.equal(on_white(image), image[..., :3])
    assert torch.equal(on_white(torch.ones(8, 8, 6) * 0.3), torch.full((8, 8, 3), 0.3))
    assert has_alpha(image) and not has_alpha(image[..., :3]) and not has_alpha(torch.ones(8, 4))


@pytest.mark.parametrize("resolution", [4, 8, 24, 51])
def test_the_result_has_the_size_asked_for_and_keeps_a_plain_colour(resolution: int) -> None:
    image = torch.tensor([0.1, 0.5, 0.9]).expand(12, 17, 3)
    square = center_square(image, resolution)
    torch.testing.assert_close(square, torch.tensor([0.1, 0.5, 0.9]).expand(resolution, resolution, 3))
    assert square.is_contiguous()


def test_resizing_never_leaves_the_range_of_colours() -> None:
    """Bicubic interpolation overshoots at hard edges."""
    image = torch.zeros(16, 16, 3)
    image[:, 8:] = 1.0
    square = center_square(image, 37)
    assert square.min() == 0.0
    assert square.max() == 1.0


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    image = torch.zeros(64, 64, 3)
    image[::8] = 1.0  # one row in eight is white, and none of them is where plain sampling would look
    torch.testing.assert_close(center_square(image, 8)[2:-2], torch.full((4, 8, 3), 1 / 8), atol=0.02, rtol=0)


def test_half_precision_images_become_float32() -> None:
    assert center_square(torch.rand(9, 9, 3).half(), 8).dtype == torch.float32


@pytest.mark.parametrize("shape", [(7, 64, 3), (64, 7, 3), (16, 16, 1), (16, 16), (1, 16, 16, 3)])
def test_anything_but_an_image_of_eight_pixels_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserInputError) as refusal:
        center_square(torch.zeros(shape), 8)
    assert str(shape) in str(refusal.value)
    assert "height × width × 3 with at least 8 × 8 pixels" in str(refusal.value)


def test_an_image_of_one_colour_is_told_from_one_that_shows_something() -> None:
    image = torch.tensor([0.1, 0.5, 0.9]).expand(12, 17, 3).clone()
    assert is_one_colour(image) and is_one_colour(torch.zeros(8, 8, 4))
    image[3, 3, 1] += 0.003  # less than a level
    assert is_one_colour(image)
    image[3, 3, 1] += 0.002
    assert not is_one_colour(image)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_with_values_that_are_not_finite_is_refused(value: float) -> None:
    image = torch.zeros(16, 16, 3)
    image[3, 3, 1] = value
    with pytest.raises(UserInputError, match="not finite. Load it again or leave it out"):
        center_square(image, 16)


@pytest.mark.parametrize(
    "size, expected",
    [
        ((512, 512), (512, 512)),
        ((100, 100), (512, 512)),
        ((2000, 3000), (384, 640)),
        ((3000, 2000), (640, 384)),
        ((1000, 1300), (448, 576)),
        ((100, 5000), (384, 640)),
    ],
)
def test_the_nearest_bucket_is_chosen(size: tuple[int, int], expected: tuple[int, int]) -> None:
    height, width = bucket_of(*size, 512)
    assert height % 64 == width % 64 == 0 and height * width <= 512**2 and max(height, width) <= 2 * min(height, width)
    assert (height, width) == expected


def test_a_bucket_keeps_the_middle_of_the_longer_side() -> None:
    image = torch.rand(64, 200, 3)
    assert torch.equal(center_crop(image, 64, 128), image[:, 36:164])
    assert center_crop(torch.rand(90, 64, 3), 64, 128).shape == (64, 128, 3)


def test_a_mask_is_cropped_as_its_image_and_averaged() -> None:
    mask = torch.zeros(16, 32)
    mask[:8, 8:12] = 1.0  # half of the first latent of the centre square
    small = latent_mask(mask, 16, 16, 8)
    assert small.shape == (1, 2, 2) and small.flatten().tolist() == [0.5, 0.0, 0.0, 0.0]


def test_a_mask_that_hides_everything_is_refused() -> None:
    mask = torch.zeros(16, 32)
    mask[:, :4] = 1.0  # lost by the crop
    with pytest.raises(UserInputError, match="black wherever its cropped image is"):
        latent_mask(mask, 16, 16, 8)
    with pytest.raises(UserInputError, match="not finite"):
        latent_mask(mask / 0.0, 16, 16, 8)


def test_a_thumbnail_comes_back_out_of_its_url_and_anything_else_is_none() -> None:
    image = torch.full((40, 60, 3), 0.25)
    found = image_of_thumbnail(thumbnail_of(image, edge_px=16))
    assert found is not None and found.shape == (16, 16, 3) and (found - 0.25).abs().max() < 0.02
    for url in ("", "cat.png", "data:image/png;base64,", "data:image/png;base64,%%", "data:text/html;base64,aGk="):
        assert image_of_thumbnail(url) is None
    assert image_of_thumbnail(thumbnail_of(torch.zeros(8, 8, 3), edge_px=1500)) is None


def test_a_large_image_is_shown_small_and_a_small_one_as_it_is() -> None:
    image = torch.zeros(30, 60, 4)
    image[:, 30:] = 1.0
    small = thumbnail(image, 20)
    assert small.shape == (10, 20, 4) and (small[:, :10] == 0).all() and (small[:, 10:] == 1).all()
    assert torch.equal(thumbnail(small, 20), small)
