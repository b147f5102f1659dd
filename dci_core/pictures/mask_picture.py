"""Draw blend masks as a labelled grid: one row per map size, one column per model call (figure 11)."""

from __future__ import annotations

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
INACTIVE = (
    "No masks in this run.",
    "active_fraction is 0, no step was noisy enough, blend is not",
    "masks, no noise was added, the positive was not made by Aux",
    "Prompt Builder, or it has an area or context windows, for",
    "which none are kept. ComfyUI's log says which.",
)


class Contrast(str, Enum):
    """How W_a becomes brightness: 0 … 1 as it is, or each map size from its own least to its own largest value."""

    STRETCHED = "stretched"
    ABSOLUTE = "absolute"


def draw_mask_grid(
    masks: BlendMasks,
    image: Tensor,
    row: int = 0,
    overlay: float = 0.0,
    contrast: Contrast = Contrast.STRETCHED,
    cell_px: int = 192,
) -> Tensor:
    """Return a picture of W_a for one image of the batch; brighter is more auxiliary, the numbers are below.

    Args:
        masks: of a run, with at least one call.
        image: the generated image, [height, width, 3], values 0 … 1; shown in front of each row.
        row: which image of the batch, 0-based.
        overlay: 0 shows the masks alone, 1 the image darkened by the mask; between is a mixture.
        contrast: stretched shows differences, absolute compares map sizes and runs.
        cell_px: longer edge of each cell in pixels.

    Returns:
        [height', width', 3], float32, values 0 … 1.

    Raises:
        UserInputError: there are no masks, or no such row.
    """
    contrast = Contrast(contrast)
    if not masks.calls:
        raise UserInputError(
            "There are no masks: the run had no active step. Raise active_fraction, connect a conditioning made by "
            "AuxPromptBuilder, and run the sampler before this node."
        )
    if not 0 <= row < masks.batch:
        raise UserInputError(f"There is no image {row} among the masks of {masks.batch} images.")
    picture = _fitted(image, cell_px)
    width, height = picture.size
    sizes, calls = masks.sizes, masks.calls
    canvas = Image.new("RGB", _canvas_size(len(sizes), len(calls), width, height), BACKGROUND)
    draw, font = ImageDraw.Draw(canvas), label_font(13)
    pitch = max(width, LABEL_WIDTH_PX) + MARGIN_PX
    left, top = SIDE_PX + pitch, MARGIN_PX + LABEL_PX
    for column, call in enumerate(calls):
        x = left + column * pitch
        draw.text((x, MARGIN_PX + 2), f"call {call.number}, t = {call.timestep:.3g}", INK, font, anchor="lt")
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
    return to_tensor(canvas)


def draw_inactive(image: Tensor, cell_px: int = 192) -> Tensor:
    """Return a picture that says there are no masks and why, for a run that made none.

    Args:
        image: the generated image, [height, width, 3], values 0 … 1.
        cell_px: longer edge of the image in the picture, in pixels.

    Returns:
        [height', width', 3], float32, values 0 … 1.
    """
    picture = _fitted(image, cell_px)
    canvas = Image.new("RGB", (SIDE_PX + cell_px + NOTICE_PX, cell_px + 2 * MARGIN_PX), BACKGROUND)
    canvas.paste(picture, (SIDE_PX, MARGIN_PX))
    draw, font = ImageDraw.Draw(canvas), label_font(13)
    for line, text in enumerate(INACTIVE):
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


def _cell(grid: Tensor, picture: Image.Image, overlay: float) -> Image.Image:
    mask = Image.fromarray((grid.clamp(0, 1) * 255).round().byte().numpy()).resize(
        picture.size, Image.Resampling.NEAREST
    )
    shaded = Image.composite(picture, Image.new("RGB", picture.size), mask)
    return Image.blend(mask.convert("RGB"), shaded, min(max(overlay, 0.0), 1.0))


def _fitted(image: Tensor, edge_px: int) -> Image.Image:
    scale = edge_px / max(image.shape[0], image.shape[1])
    width, height = (max(1, round(edge * scale)) for edge in (image.shape[1], image.shape[0]))
    return to_pil(image).resize((width, height), Image.Resampling.LANCZOS)
