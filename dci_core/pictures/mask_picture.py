"""Draw blend masks in two colours: their average over the picture, or one row per map size and one column per model call (figure 11)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import UserInputError
from ..sampling.masks import BlendMasks
from .drawing import BACKGROUND, FAINT, INK, label_font, to_pil, to_tensor

MARGIN_PX = 10
LABEL_PX = 18
LABEL_WIDTH_PX = 178
SIDE_PX = 76
NOTICE_PX = 410
BAR_PX = 10
SMALL_PX, LARGE_PX = 192, 384
"""Longer edge of a cell of the grid, and of the average."""
SUBJECT, SCENE = (238, 142, 44), (52, 112, 238)
"""Colours of W_a 0 and 1; between them is their mixture, grey in the middle."""
TINT = 0.35
"""Share of the colour where the overlay is 1."""
SUBJECT_NAME, SCENE_NAME = "your subject", "scene"
INACTIVE = (
    "No masks in this run.",
    "active_fraction is 0, no step was noisy enough, blend is not",
    "masks, no noise was added, the positive was not made by Aux",
    "Prompt Builder, or it has an area or context windows, for",
    "which none are kept. ComfyUI's log says which.",
)


class View(str, Enum):
    """One average of the masks, or every model call and map size by itself."""

    AVERAGE = "average"
    EVERY_CALL = "every call"


class Contrast(str, Enum):
    """How W_a becomes colour: 0 … 1 as it is, or each map size from its own least to its own largest value."""

    STRETCHED = "stretched"
    ABSOLUTE = "absolute"


def draw_masks(
    view: View,
    masks: BlendMasks,
    image: Tensor,
    row: int = 0,
    overlay: float = 0.0,
    contrast: Contrast = Contrast.STRETCHED,
    cell_px: int = 0,
) -> Tensor:
    """Return a picture of W_a for one image of the batch, with a legend of its two colours.

    Args:
        view: average is one map beside the image, every call a grid of them.
        masks: of a run, with at least one call.
        image: the generated image, [height, width, 3], values 0 … 1.
        row: which image of the batch, 0-based.
        overlay: 0 shows the colours alone, 1 the image, tinted; between is a mixture.
        contrast: stretched shows differences, absolute compares map sizes and runs.
        cell_px: longer edge of each cell in pixels; 0 is the view's own.

    Returns:
        [height', width', 3], float32, values 0 … 1.

    Raises:
        UserInputError: there are no masks, or no such row.
    """
    if not masks.calls:
        raise UserInputError(
            "There are no masks: the run had no active step. Raise active_fraction, connect a conditioning made by "
            "AuxPromptBuilder, and run the sampler before this node."
        )
    if not 0 <= row < masks.batch:
        raise UserInputError(f"There is no image {row} among the masks of {masks.batch} images.")
    draw = _draw_average if View(view) is View.AVERAGE else _draw_grid
    return draw(masks, image, row, overlay, Contrast(contrast), cell_px)


def _draw_average(
    masks: BlendMasks, image: Tensor, row: int, overlay: float, contrast: Contrast, cell_px: int
) -> Tensor:
    picture = _fitted(image, cell_px or LARGE_PX)
    width, height = picture.size
    grid = masks.average(height, width)[row]
    black, white = _range([grid], contrast)
    canvas = Image.new("RGB", (2 * width + 3 * MARGIN_PX, height + 3 * LABEL_PX + 2 * MARGIN_PX), BACKGROUND)
    draw, font, left = ImageDraw.Draw(canvas), label_font(13), width + 2 * MARGIN_PX
    canvas.paste(picture, (MARGIN_PX, MARGIN_PX))
    canvas.paste(_cell((grid - black) / (white - black), picture, overlay), (left, MARGIN_PX))
    _legend(canvas, left, height + 2 * MARGIN_PX, width)
    share = f"the scene's say: {grid.mean():.0%} ({grid.min():.0%} … {grid.max():.0%})".replace("%", " %")
    for line, text in enumerate((_span(masks), share)):
        draw.text((MARGIN_PX, height + 2 * MARGIN_PX + (line + 1) * LABEL_PX), text, INK, font, anchor="lt")
    return to_tensor(canvas)


def _draw_grid(masks: BlendMasks, image: Tensor, row: int, overlay: float, contrast: Contrast, cell_px: int) -> Tensor:
    picture = _fitted(image, cell_px or SMALL_PX)
    width, height = picture.size
    sizes, calls = masks.sizes, masks.calls
    canvas = Image.new("RGB", _canvas_size(len(sizes), len(calls), width, height), BACKGROUND)
    draw, font = ImageDraw.Draw(canvas), label_font(13)
    pitch = max(width, LABEL_WIDTH_PX) + MARGIN_PX
    left, top = SIDE_PX + pitch, MARGIN_PX + LABEL_PX
    for column, label in enumerate(_call_labels(masks)):
        draw.text((left + column * pitch, MARGIN_PX + 2), label, INK, font, anchor="lt")
    for line, size in enumerate(sizes):
        y = top + line * (height + LABEL_PX + MARGIN_PX)
        draw.text((SIDE_PX / 2, y + height / 2), f"{size[0]} x {size[1]}", INK, font, anchor="mm")
        canvas.paste(picture, (SIDE_PX, y))
        black, white = _range([call.maps[size][row] for call in calls if size in call.maps], contrast)
        for column, call in enumerate(calls):
            if size not in call.maps:
                continue
            x, grid = left + column * pitch, call.maps[size][row]
            canvas.paste(_cell((grid - black) / (white - black), picture, overlay), (x, y))
            label = f"mean {grid.mean():.3f}  ({grid.min():.3f} … {grid.max():.3f})"
            draw.text((x, y + height + 3), label, FAINT, font, anchor="lt")
    _legend(canvas, SIDE_PX, top + height + 5, LABEL_WIDTH_PX)
    return to_tensor(canvas)


def _legend(canvas: Image.Image, x: int, y: int, width: int) -> None:
    """Draw the two colours with what they mean at their ends."""
    draw, font = ImageDraw.Draw(canvas), label_font(11)
    names = [draw.textlength(name, font) for name in (SUBJECT_NAME, SCENE_NAME)]
    first, last = round(x + names[0] + 6), round(x + width - names[1] - 6)
    shades = torch.linspace(0, 1, max(last - first, 2)).expand(BAR_PX, -1)
    canvas.paste(Image.fromarray((_tint(shades) * 255).round().byte().numpy()), (first, y))
    draw.text((x, y + BAR_PX / 2), SUBJECT_NAME, SUBJECT, font, anchor="lm")
    draw.text((x + width, y + BAR_PX / 2), SCENE_NAME, SCENE, font, anchor="rm")


def _call_labels(masks: BlendMasks) -> list[str]:
    """What each column is called: its step, and its call where a step has several."""
    in_step = Counter(call.step for call in masks.calls)
    labels = []
    for call in masks.calls:
        label = f"step {call.step} of {call.steps}" if call.step else f"call {call.number}"
        labels.append(f"{label}, call {call.number}" if call.step and in_step[call.step] > 1 else label)
    return labels


def _span(masks: BlendMasks) -> str:
    """What an average is over."""
    first, last = masks.calls[0], masks.calls[-1]
    sizes = ", ".join(f"{height} x {width}" for height, width in masks.sizes)
    if not first.step:
        return f"{len(masks.calls)} model call{'s' * (len(masks.calls) > 1)}; maps {sizes}"
    steps = f"step {first.step}" if first.step == last.step else f"steps {first.step} to {last.step}"
    return f"{steps} of {first.steps}; maps {sizes}"


def draw_inactive(image: Tensor, lines: Sequence[str] = INACTIVE, cell_px: int = 192) -> Tensor:
    """Return a picture that says there are no masks and why, for a run that made none.

    Args:
        image: the generated image, [height, width, 3], values 0 … 1.
        lines: what is said.
        cell_px: longer edge of the image in the picture, in pixels.

    Returns:
        [height', width', 3], float32, values 0 … 1.
    """
    picture = _fitted(image, cell_px)
    canvas = Image.new("RGB", (SIDE_PX + cell_px + NOTICE_PX, cell_px + 2 * MARGIN_PX), BACKGROUND)
    canvas.paste(picture, (SIDE_PX, MARGIN_PX))
    draw, font = ImageDraw.Draw(canvas), label_font(13)
    for line, text in enumerate(lines):
        place = (SIDE_PX + cell_px + 2 * MARGIN_PX, 3 * MARGIN_PX + line * LABEL_PX)
        draw.text(place, text, INK if line == 0 else FAINT, font)
    return to_tensor(canvas)


def _canvas_size(rows: int, columns: int, width: int, height: int) -> tuple[int, int]:
    total_width = SIDE_PX + (columns + 1) * (max(width, LABEL_WIDTH_PX) + MARGIN_PX)
    return total_width, MARGIN_PX + LABEL_PX + rows * (height + LABEL_PX + MARGIN_PX)


def _range(grids: list[Tensor], contrast: Contrast) -> tuple[float, float]:
    values = torch.cat([grid.flatten() for grid in grids])
    least, most = values.min().item(), values.max().item()
    return (least, most) if contrast is Contrast.STRETCHED and most > least else (0.0, 1.0)


def _tint(shares: Tensor) -> Tensor:
    """Return the colours of W_a, [..., 3], values 0 … 1."""
    subject, scene = (torch.tensor(colour) / 255 for colour in (SUBJECT, SCENE))
    return torch.lerp(subject, scene, shares.clamp(0, 1)[..., None])


def _cell(grid: Tensor, picture: Image.Image, overlay: float) -> Image.Image:
    map_ = Image.fromarray((_tint(grid) * 255).round().byte().numpy()).resize(picture.size, Image.Resampling.NEAREST)
    return Image.blend(map_, Image.blend(picture, map_, TINT), min(max(overlay, 0.0), 1.0))


def _fitted(image: Tensor, edge_px: int) -> Image.Image:
    scale = edge_px / max(image.shape[0], image.shape[1])
    width, height = (max(1, round(edge * scale)) for edge in (image.shape[1], image.shape[0]))
    return to_pil(image).resize((width, height), Image.Resampling.LANCZOS)
