"""A λ sweep: one labelled picture of all results."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from .drawing import BACKGROUND, FAINT, INK, Font, label_font, to_pil, to_tensor

PLAIN_LABEL, REFERENCES_LABEL = "no DCI", "references"


def strength_label(injection_strength: float) -> str:
    """Return the label of a λ; Pillow's own font has no Greek letters."""
    return f"lambda {injection_strength:g}"


def draw_sweep(
    rows: Sequence[Sequence[Tensor]],
    column_labels: Sequence[str],
    row_labels: Sequence[str],
    caption: str,
    references: Sequence[Tensor] = (),
) -> Tensor:
    """Return one picture of all images with their labels; the first column stands a little apart.

    Args:
        rows: of images, [height, width, channels ≥ 3] each with values 0 … 1, all of one size; shown pixel for pixel.
        column_labels: one for each image of a row, above it.
        row_labels: one for each row, at its left; may have several lines.
        caption: a line below.
        references: what the subject looks like, [height, width, channels ≥ 3] each of any size; they fill a column of its own at
            the left, scaled down to fit. None leaves the column out.

    Returns:
        [height', width', 3], float32, values 0 … 1.
    """
    height, width = rows[0][0].shape[:2]
    text_px = max(12, round(min(width / 9, height / 12)))
    gap = max(4, text_px // 3)
    font, small = label_font(text_px), label_font(max(11, round(text_px * 0.6)))
    start = gap + (max(width, _widest([REFERENCES_LABEL], font)) + 2 * gap if references else 0)
    left = start + gap + _widest(row_labels, small)
    top = 2 * gap + text_px
    cell = max(width, _widest(column_labels, font))
    columns = [left + column * (cell + gap) + (2 * gap if column else 0) for column in range(len(column_labels))]
    bottom = top + len(rows) * (height + gap)
    right = max(columns[-1] + cell, left + _widest([caption], small))
    canvas = Image.new("RGB", (right + gap, bottom + text_px + gap), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for x, label in zip(columns, column_labels):
        draw.text((x + cell / 2, gap), label, INK, font, anchor="mt")
    for line, (row, label) in enumerate(zip(rows, row_labels)):
        y = top + line * (height + gap)
        draw.multiline_text((start, y + height / 2), label, INK, small, anchor="lm")
        for x, image in zip(columns, row):
            canvas.paste(to_pil(image), (x + (cell - width) // 2, y))
    draw.text((left, bottom), caption, FAINT, small, anchor="lt")
    if references:
        draw.text(((start - gap) / 2, gap), REFERENCES_LABEL, INK, font, anchor="mt")
        _paste_fitting(canvas, references, (gap, top, start - 2 * gap, bottom - gap), gap)
    return to_tensor(canvas)


def _paste_fitting(canvas: Image.Image, images: Sequence[Tensor], box: tuple[int, int, int, int], gap: int) -> None:
    """Put images into a box (left, top, right, bottom), side by side and below each other, as large as all of them can be."""
    left, top, right, bottom = box
    count = len(images)

    def edges(columns: int) -> tuple[float, float]:
        lines = math.ceil(count / columns)
        return (right - left - (columns - 1) * gap) / columns, (bottom - top - (lines - 1) * gap) / lines

    columns = max(range(1, count + 1), key=lambda number: min(edges(number)))
    edge = max(1, math.floor(min(edges(columns))))
    left += (right - left - columns * (edge + gap) + gap) // 2
    for number, image in enumerate(images):
        picture = ImageOps.contain(to_pil(image), (edge, edge), Image.Resampling.LANCZOS)
        line, column = divmod(number, columns)
        canvas.paste(picture, (left + column * (edge + gap), top + line * (edge + gap)))


def _widest(labels: Sequence[str], font: Font) -> int:
    return max(math.ceil(font.getlength(line)) for label in labels for line in label.split("\n"))
