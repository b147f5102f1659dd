"""The pictures of masks: where what stands, what the two colours mean, what the overlay does."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.pictures.mask_picture import (
    LABEL_PX,
    LABEL_WIDTH_PX,
    MARGIN_PX,
    NOTICE_PX,
    SCENE,
    SIDE_PX,
    SUBJECT,
    TINT,
    Contrast,
    View,
    _call_labels,
    _span,
    draw_inactive,
    draw_masks,
)
from comfyui_dci.dci_core.sampling.masks import BlendMasks, MaskCollector
from torch import Tensor

CELL = 64
# 8-bit colours: half a step of rounding, in two of which a share is told from a colour
TOLERANCE = 0.5 / 255 + 1e-6
SHARE_TOLERANCE = 4 * TOLERANCE
draw_mask_grid = partial(draw_masks, View.EVERY_CALL)
draw_average = partial(draw_masks, View.AVERAGE)


def colour_of(share: float) -> Tensor:
    """The colour of W_a."""
    return torch.lerp(torch.tensor(SUBJECT) / 255, torch.tensor(SCENE) / 255, share)


def shares_of(colours: Tensor) -> Tensor:
    """W_a of colours, [..., 3]."""
    way = colour_of(1.0) - colour_of(0.0)
    return (colours - colour_of(0.0)) @ way / (way @ way)


def masks_of(*maps: list[list[float]], images: int = 1) -> BlendMasks:
    """One call per map; further images of the batch have the map turned inside out."""
    collector = MaskCollector()
    for number, values in enumerate(maps):
        grid = torch.tensor(values)
        batch = torch.stack([grid if image == 0 else 1.0 - grid for image in range(images)])
        collector.add(batch.flatten(1)[:, None], (grid.shape[0], grid.shape[1]))
        collector.finish_call(10.0 - number, 999.0 - 50 * number)
    return collector.masks()


def plain_image(height: int = 128, width: int = 128) -> Tensor:
    """A smooth picture, red from left to right and green from top to bottom."""
    picture = torch.zeros(height, width, 3)
    picture[..., 0] = torch.linspace(0.2, 0.9, width)
    picture[..., 1] = torch.linspace(0.1, 0.8, height)[:, None]
    picture[..., 2] = 0.5
    return picture


def cell(picture: Tensor, line: int, column: int, height: int = CELL, width: int = CELL) -> Tensor:
    """Cut out one mask; column -1 is the generated image in front of the row."""
    x = SIDE_PX + (column + 1) * (max(width, LABEL_WIDTH_PX) + MARGIN_PX)
    y = MARGIN_PX + LABEL_PX + line * (height + LABEL_PX + MARGIN_PX)
    return picture[y : y + height, x : x + width]


@pytest.mark.parametrize("calls", [1, 3])
def test_the_picture_has_a_column_per_call_and_a_row_per_size(calls: int) -> None:
    collector = MaskCollector()
    for call in range(calls):
        collector.add(torch.rand(1, 1, 4), (2, 2))
        collector.add(torch.rand(1, 1, 16), (4, 4))
        collector.finish_call(1.0, float(call))
    picture = draw_mask_grid(collector.masks(), plain_image(), cell_px=CELL)
    height = MARGIN_PX + LABEL_PX + 2 * (CELL + LABEL_PX + MARGIN_PX)
    assert picture.shape == (height, SIDE_PX + (1 + calls) * (max(CELL, LABEL_WIDTH_PX) + MARGIN_PX), 3)
    assert picture.dtype == torch.float32
    assert picture.min() >= 0.0
    assert picture.max() <= 1.0


@pytest.mark.parametrize("height, width, expected", [(128, 256, (32, 64)), (256, 64, (64, 16)), (8, 8, (64, 64))])
def test_cells_have_the_images_proportions(height: int, width: int, expected: tuple[int, int]) -> None:
    masks = masks_of([[1.0, 1.0], [1.0, 1.0]])
    picture = draw_mask_grid(masks, plain_image(height, width), cell_px=CELL)
    assert picture.shape[0] == MARGIN_PX + LABEL_PX + expected[0] + LABEL_PX + MARGIN_PX
    assert picture.shape[1] == SIDE_PX + 2 * (max(expected[1], LABEL_WIDTH_PX) + MARGIN_PX)
    assert shares_of(cell(picture, 0, 0, *expected)).sub(1.0).abs().max() < SHARE_TOLERANCE


def test_all_scene_has_one_colour_and_all_subject_the_other() -> None:
    picture = draw_mask_grid(masks_of([[1.0, 0.0], [0.0, 1.0]]), plain_image(), cell_px=CELL)
    mask, half = cell(picture, 0, 0), CELL // 2
    for part in (mask[:half, :half], mask[half:, half:]):
        torch.testing.assert_close(part, colour_of(1.0).expand_as(part), atol=TOLERANCE, rtol=0)
    for part in (mask[:half, half:], mask[half:, :half]):
        torch.testing.assert_close(part, colour_of(0.0).expand_as(part), atol=TOLERANCE, rtol=0)


def test_in_absolute_contrast_the_colour_is_the_weight() -> None:
    masks = masks_of([[0.1, 0.3], [0.5, 0.9]])
    picture = draw_mask_grid(masks, plain_image(), contrast=Contrast.ABSOLUTE, cell_px=CELL)
    mask, half = cell(picture, 0, 0), CELL // 2
    shades = [mask[:half, :half], mask[:half, half:], mask[half:, :half], mask[half:, half:]]
    for shade, weight in zip(shades, [0.1, 0.3, 0.5, 0.9]):
        torch.testing.assert_close(shade, colour_of(weight).expand_as(shade), atol=TOLERANCE, rtol=0)


def two_sizes() -> BlendMasks:
    """Three calls: a 4 × 4 map of 0.2, 0.6 and 0.3, and a 2 × 2 map of 0.90, 0.94 and 0.93; image 1 is all over."""
    collector = MaskCollector()
    for large, small in ((0.2, 0.90), (0.6, 0.94), (0.3, 0.93)):
        collector.add(torch.stack([torch.full((1, 16), large), torch.rand(1, 16)]), (4, 4))
        collector.add(torch.stack([torch.full((1, 4), small), torch.rand(1, 4)]), (2, 2))
        collector.finish_call(1.0, 1.0)
    return collector.masks()


def test_stretched_contrast_takes_each_size_from_its_least_to_its_largest_value_over_all_calls() -> None:
    picture = draw_mask_grid(two_sizes(), plain_image(), contrast=Contrast.STRETCHED, cell_px=CELL)
    shades = [[shares_of(cell(picture, line, column)).mean().item() for column in range(3)] for line in range(2)]
    assert shades[0] == pytest.approx([0.0, 1.0, 0.25], abs=SHARE_TOLERANCE)
    assert shades[1] == pytest.approx([0.0, 1.0, 0.75], abs=SHARE_TOLERANCE)


def test_contrast_is_stretched_unless_asked_otherwise_and_never_changes_the_numbers() -> None:
    masks = two_sizes()
    default, stretched, absolute = (
        draw_mask_grid(masks, plain_image(), cell_px=CELL, **options)
        for options in ({}, {"contrast": Contrast.STRETCHED}, {"contrast": Contrast.ABSOLUTE})
    )
    assert torch.equal(default, stretched)
    assert not torch.equal(cell(default, 0, 0), cell(absolute, 0, 0))
    labels = slice(MARGIN_PX + LABEL_PX + CELL, MARGIN_PX + LABEL_PX + CELL + LABEL_PX + MARGIN_PX)
    assert torch.equal(default[labels], absolute[labels])


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_masks_without_any_difference_are_drawn_as_they_are(weight: float) -> None:
    picture = draw_mask_grid(masks_of([[weight, weight]], [[weight, weight]]), plain_image(), cell_px=CELL)
    expected = colour_of(weight).expand(CELL, CELL, 3)
    torch.testing.assert_close(cell(picture, 0, 1), expected, atol=TOLERANCE, rtol=0)


def test_calls_follow_each_other_and_larger_maps_stand_on_top() -> None:
    collector = MaskCollector()
    for small, large in ((0.2, 0.8), (0.4, 0.6)):
        collector.add(torch.full((1, 1, 4), small), (2, 2))
        collector.add(torch.full((1, 1, 16), large), (4, 4))
        collector.finish_call(1.0, 1.0)
    picture = draw_mask_grid(collector.masks(), plain_image(), contrast=Contrast.ABSOLUTE, cell_px=CELL)
    shades = [[shares_of(cell(picture, line, column)).mean().item() for column in (0, 1)] for line in (0, 1)]
    assert shades[0] == pytest.approx([0.8, 0.6], abs=SHARE_TOLERANCE)
    assert shades[1] == pytest.approx([0.2, 0.4], abs=SHARE_TOLERANCE)


def test_the_generated_image_stands_in_front_of_each_row() -> None:
    collector = MaskCollector()
    collector.add(torch.rand(1, 1, 4), (2, 2))
    collector.add(torch.rand(1, 1, 16), (4, 4))
    collector.finish_call(1.0, 1.0)
    image = plain_image(CELL, CELL)
    picture = draw_mask_grid(collector.masks(), image, cell_px=CELL)
    for line in (0, 1):
        torch.testing.assert_close(cell(picture, line, -1), image, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("overlay", [0.0, 0.5, 1.0])
def test_the_overlay_is_the_image_tinted_with_the_colours(overlay: float) -> None:
    image = plain_image(CELL, CELL)
    picture = draw_mask_grid(masks_of([[0.4]]), image, overlay=overlay, cell_px=CELL)
    colour = colour_of(0.4)
    expected = (1 - overlay) * colour + overlay * (TINT * colour + (1 - TINT) * image)
    # three roundings to 8 bit: colour, tinted image, mixture
    torch.testing.assert_close(cell(picture, 0, 0), expected.expand(CELL, CELL, 3), atol=3 / 255, rtol=0)


def test_each_image_of_the_batch_has_its_own_picture() -> None:
    masks = masks_of([[1.0]], images=2)
    for row, share in ((0, 1.0), (1, 0.0)):
        shown = cell(draw_mask_grid(masks, plain_image(), row=row, cell_px=CELL), 0, 0)
        assert (shares_of(shown) - share).abs().max() < SHARE_TOLERANCE


def test_a_column_is_named_by_its_step_and_by_its_call_where_a_step_has_several() -> None:
    collector = MaskCollector()
    for step in (1, 2, 2):
        collector.add(torch.rand(1, 1, 4), (2, 2))
        collector.finish_call(1.0, 1.0, step, 20)
    assert _call_labels(collector.masks()) == ["step 1 of 20", "step 2 of 20, call 2", "step 2 of 20, call 3"]
    assert _span(collector.masks()) == "steps 1 to 2 of 20; maps 2 x 2"
    assert _call_labels(masks_of([[1.0]])) == ["call 1"] and _span(masks_of([[1.0]])) == "1 model call; maps 1 x 1"


def average_in(picture: Tensor, edge: int = CELL) -> tuple[Tensor, Tensor]:
    """The image and the map beside it."""
    rows = slice(MARGIN_PX, MARGIN_PX + edge)
    return tuple(picture[rows, left : left + edge] for left in (MARGIN_PX, 2 * MARGIN_PX + edge))


def test_the_average_stands_beside_the_image_in_the_colours_of_the_mean_of_all_maps() -> None:
    image, masks = plain_image(CELL, CELL), masks_of([[0.2, 0.2]], [[0.6, 0.6]])
    shown, average = average_in(draw_average(masks, image, cell_px=CELL, contrast=Contrast.ABSOLUTE))
    torch.testing.assert_close(shown, image, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(average, colour_of(0.4).expand_as(average), atol=TOLERANCE, rtol=0)


def test_the_stretched_average_goes_from_one_colour_to_the_other() -> None:
    _, average = average_in(draw_average(masks_of([[0.45, 0.55]]), plain_image(), cell_px=CELL))
    assert shares_of(average[:, 0]).abs().max() < SHARE_TOLERANCE
    assert (shares_of(average[:, -1]) - 1).abs().max() < SHARE_TOLERANCE


@pytest.mark.parametrize("view", View)
def test_the_legend_runs_from_the_subject_s_colour_to_the_scene_s(view: View) -> None:
    picture = draw_masks(view, masks_of([[0.5, 0.5]]), torch.zeros(64, 64, 3))
    for colour in (SUBJECT, SCENE):
        near = (picture - torch.tensor(colour) / 255).abs().amax(dim=-1) < 2 / 255
        assert near.sum() > 8, f"nothing of the legend is {colour}"


@pytest.mark.parametrize("height, width", [(128, 128), (64, 128), (128, 64)])
def test_the_texts_below_an_average_are_not_cut_off(height: int, width: int) -> None:
    picture = draw_average(masks_of([[0.25, 0.75]]), plain_image(height, width))
    assert (picture[:, -2:] == picture[0, 0]).all() and (picture[-2:] == picture[0, 0]).all()


def test_a_size_that_a_call_lacks_leaves_its_cell_empty() -> None:
    masks = masks_of([[1.0]], [[1.0, 1.0], [1.0, 1.0]])
    picture = draw_mask_grid(masks, plain_image(), cell_px=CELL)
    empty = cell(picture, 0, 0)  # the first call has no 2 × 2 map
    assert (empty == empty[0, 0]).all()
    assert empty[0, 0].max() < 0.2
    assert shares_of(cell(picture, 0, 1)).sub(1.0).abs().max() < SHARE_TOLERANCE


def test_rows_and_columns_are_labelled() -> None:
    """Letters are lighter than the dark ground they stand on."""
    picture = draw_mask_grid(masks_of([[1.0]]), plain_image(), cell_px=192)
    top, left = MARGIN_PX + LABEL_PX, SIDE_PX
    below = picture[top + 192 : top + 192 + LABEL_PX, left + 192 + MARGIN_PX :]
    for label in (picture[:top, left + 192 :], picture[top:, :left], below):
        assert label.max() > 0.5


@pytest.mark.parametrize("width", [256, 171, 144, 128])
def test_labels_under_narrow_cells_stay_in_their_column(width: int) -> None:
    """Portrait images make cells narrower than they are high: 1:1, 2:3, 9:16 and 1:2 at the default cell size."""
    masks = masks_of([[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 1.0]])
    picture = draw_mask_grid(masks, plain_image(256, width))
    cell_width = max(round(width * 192 / 256), LABEL_WIDTH_PX)
    strip = picture[MARGIN_PX + LABEL_PX + 192 :]
    for column in range(-1, 3):
        end = SIDE_PX + (column + 2) * (cell_width + MARGIN_PX)
        gap = strip[:, end - MARGIN_PX : end]
        assert (gap == picture[0, 0]).all(), f"a label reaches beyond column {column}"


def test_alpha_and_values_beyond_white_are_left_out() -> None:
    image = torch.cat([plain_image(CELL, CELL) * 3 - 1, torch.zeros(CELL, CELL, 1)], dim=-1)
    picture = draw_mask_grid(masks_of([[1.0]]), image, cell_px=CELL)
    torch.testing.assert_close(cell(picture, 0, -1), image[..., :3].clamp(0, 1), atol=TOLERANCE, rtol=0)


def test_no_masks_is_refused_with_what_to_do() -> None:
    with pytest.raises(UserInputError) as refusal:
        draw_mask_grid(BlendMasks(), plain_image())
    assert "There are no masks: the run had no active step. Raise active_fraction" in str(refusal.value)
    assert "run the sampler before this node" in str(refusal.value)


@pytest.mark.parametrize("row", [-1, 2])
def test_an_image_that_is_not_in_the_batch_is_refused_by_number(row: int) -> None:
    with pytest.raises(UserInputError, match=f"There is no image {row} among the masks of 2 images"):
        draw_mask_grid(masks_of([[1.0]], images=2), plain_image(), row=row)


@pytest.mark.parametrize("height, width", [(128, 128), (64, 128), (128, 64)])
def test_a_plain_run_is_drawn_as_its_image_and_the_reason(height: int, width: int) -> None:
    picture = draw_inactive(plain_image(height, width), cell_px=CELL)
    assert picture.shape == (CELL + 2 * MARGIN_PX, SIDE_PX + CELL + NOTICE_PX, 3)
    image = picture[MARGIN_PX : MARGIN_PX + CELL * height // 128, SIDE_PX : SIDE_PX + CELL * width // 128]
    assert abs(image[0, 0, 0].item() - 0.2) < 0.03
    assert abs(image[-1, -1, 0].item() - 0.9) < 0.03
    text = picture[:, SIDE_PX + CELL + MARGIN_PX :]
    assert (text != picture[0, 0]).any()
    assert (text[:, -MARGIN_PX:] == picture[0, 0]).all(), "the text is cut off"
