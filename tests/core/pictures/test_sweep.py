"""Every image of a sweep is in the picture, pixel for pixel."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.pictures.drawing import BACKGROUND
from comfyui_dci.dci_core.pictures.sweep import draw_sweep, strength_label


def test_labels_are_short() -> None:
    assert [strength_label(v) for v in (-2.0, 0.0, 0.25)] == ["lambda -2", "lambda 0", "lambda 0.25"]


def found(grid: torch.Tensor, image: torch.Tensor) -> list[tuple[int, int]]:
    """Return the top left corners at which a plain-coloured image stands in the grid."""
    height, width = image.shape[:2]
    same = (grid - image[0, 0]).abs().amax(dim=-1) < 1e-3
    full = same.float().unfold(0, height, 1).unfold(1, width, 1).amin(dim=(-1, -2))
    return [(int(y), int(x)) for y, x in torch.nonzero(full)]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (128, 96)])
def test_every_image_stands_in_its_row_and_column(height: int, width: int) -> None:
    levels = torch.tensor([[30, 60, 90], [120, 150, 180]]) / 255.0
    rows = [[level.expand(height, width, 3) for level in line] for line in levels]
    grid = draw_sweep(rows, ["no DCI", "lambda 0", "lambda 1"], ["seed\n1", "seed\n2"], "euler")
    assert grid.dtype == torch.float32 and grid.min() >= 0 and grid.max() <= 1
    places = [[found(grid, image) for image in line] for line in rows]
    assert all(len(place) == 1 for line in places for place in line)
    corners = torch.tensor([[place[0] for place in line] for line in places])  # [rows, columns, (y, x)]
    assert (corners[:, 1:, 1] - corners[:, :-1, 1] > width).all() and (corners[:, 0] == corners[:, 0]).all()
    assert (corners[1, :, 0] - corners[0, :, 0] > height).all()
    assert (corners[:, :, 0] == corners[:, :1, 0]).all() and (corners[0, :, 1] == corners[1, :, 1]).all()


def test_labels_are_drawn_within_the_picture() -> None:
    image = torch.zeros(64, 64, 3)
    label, caption = "lambda -1.25", "a long line below, longer than the single little image above it is wide"
    grid = draw_sweep([[image]], [label], ["seed\n18446744073709551615"], caption)
    background = torch.tensor(BACKGROUND) / 255.0
    edges = torch.cat([grid[0], grid[-1], grid[:, 0], grid[:, -1]])
    assert torch.allclose(edges, background.expand_as(edges))  # nothing is cut off
    empty = draw_sweep([[image]], [" "], [" "], " ")
    assert (grid > 0.5).sum() > 500 and (empty > 0.5).sum() == 0


def test_references_fill_a_column_at_the_left_and_move_the_rest_to_the_right() -> None:
    image = torch.full((64, 64, 3), 200 / 255.0)
    shades = [torch.full((32, 32, 3), level / 255.0) for level in (40, 80, 120, 160)]
    plain = draw_sweep([[image]], ["a"], ["seed"], "euler")
    grid = draw_sweep([[image]], ["a"], ["seed"], "euler", shades)
    assert grid.shape[0] == plain.shape[0] and grid.shape[1] > plain.shape[1] + 64
    (place,) = found(grid, image)
    corners = []
    for shade in shades:
        at = torch.nonzero((grid - shade[0, 0]).abs().amax(dim=-1) < 1e-3)
        assert (at[:, 1] < place[1]).all(), "a reference stands right of the images"
        corners.append(tuple(at.amin(dim=0).tolist()))
    (a, b, c, d) = corners  # two by two
    assert a[0] == b[0] < c[0] == d[0] and a[1] == c[1] < b[1] == d[1]
    assert torch.equal(draw_sweep([[image]], ["a"], ["seed"], "euler", []), plain)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_references_of_any_size_and_number_stay_in_their_column(count: int) -> None:
    image = torch.zeros(96, 48, 3)
    references = [torch.ones(40 + 30 * number, 100, 3) for number in range(count)]
    grid = draw_sweep([[image], [image]], ["lambda 0"], ["seed\n1", "seed\n2"], "euler", references)
    white = torch.nonzero((grid > 0.999).all(dim=-1))
    assert len(white) > 100 and white[:, 0].max() < grid.shape[0] - 4
    background = torch.tensor(BACKGROUND) / 255.0
    assert torch.allclose(grid[:, 0], background.expand_as(grid[:, 0]))
