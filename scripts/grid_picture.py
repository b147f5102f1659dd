"""The references and the grid of the demo's picture."""

from __future__ import annotations

from collections.abc import Sequence

from demo_page import KEEPS, LETS_IN, REFERENCES, DemoResults, Shown, dial_position, reference_layout
from lettering import ANCHORS, write
from palette import DARK
from picture_blocks import BODY, CARD_GAP_PX, GAP_PX, LINE, NOTE, marked_label
from PIL import Image, ImageDraw, ImageOps

SIDE_PX = 34  # room for row labels at the left of the grid
DIAL_GAP_PX = 3 * GAP_PX  # by which the columns with DCI stand apart
HINT_PX, HEAD_PX = round(NOTE * LINE), round(BODY * LINE) + GAP_PX
ROUND_PX = 8  # radius of the pictures' corners


def grid_block(results: DemoResults, width_px: int) -> Image.Image:
    """Return the references in a column at the left, and the grid with its labels beside it."""
    columns, rows = len(results.columns), len(results.rows)
    across, lines, edge = reference_layout(len(results.references), rows)
    gaps = CARD_GAP_PX + SIDE_PX + DIAL_GAP_PX + (columns - 1) * GAP_PX
    cell_width = int((width_px - gaps) / (columns + across * edge))
    first = results.rows[0][0].image
    cell = (cell_width, round(cell_width * first.height / first.width))
    height = rows * (cell[1] + GAP_PX) - GAP_PX
    stack = (width_px - gaps - columns * cell_width, round(height * lines * edge / rows))
    top, left = HINT_PX + HEAD_PX, stack[0] + CARD_GAP_PX + SIDE_PX
    canvas = Image.new("RGB", (width_px, top + height), DARK["ground"])
    heading = HINT_PX + BODY * LINE / 2
    write(canvas, (0, heading), REFERENCES, BODY, DARK["ink"])
    canvas.paste(_stack(results.references, (across, lines), stack), (0, top))
    places = [left + column * (cell_width + GAP_PX) + (DIAL_GAP_PX if column else 0) for column in range(columns)]
    write(canvas, (places[min(1, columns - 1)], HINT_PX / 2), f"< {KEEPS}", NOTE, DARK["faint"])
    write(canvas, (width_px, HINT_PX / 2), f"{LETS_IN} >", NOTE, DARK["faint"], ANCHORS["end"])
    for column, (x, text) in enumerate(zip(places, results.columns)):
        label = marked_label(text, BODY, dial_position(column, columns), "ground")
        canvas.paste(label, (x + (cell_width - label.width) // 2, HINT_PX))
    for line, (row, name) in enumerate(zip(results.rows, results.row_labels)):
        y = top + line * (cell[1] + GAP_PX)
        canvas.paste(_upright(name, cell[1]), (left - SIDE_PX, y))
        for x, shown in zip(places, row):
            canvas.paste(_fitted(shown.image, cell), (x, y))
    return canvas


def _stack(references: Sequence[Shown], layout: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """Return the references, columns and lines of them as the layout says, filling a size in pixels."""
    canvas = Image.new("RGB", size, DARK["ground"])
    (across, lines), (width, height) = layout, size
    for number, shown in enumerate(references):
        line, column = divmod(number, across)
        left, right = (round(n * (width + GAP_PX) / across) for n in (column, column + 1))
        top, bottom = (round(n * (height + GAP_PX) / lines) for n in (line, line + 1))
        canvas.paste(_fitted(shown.image, (right - left - GAP_PX, bottom - top - GAP_PX)), (left, top))
    return canvas


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a picture that fills a size, its middle where the shapes differ, with round corners."""
    filled = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
    mask = Image.new("L", (size[0] * 2, size[1] * 2))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), 2 * ROUND_PX, 255)
    ground = Image.new("RGB", size, DARK["ground"])
    return Image.composite(filled, ground, mask.resize(size, Image.Resampling.LANCZOS))


def _upright(text: str, length_px: int) -> Image.Image:
    """Return a text that runs upwards."""
    flat = Image.new("RGB", (length_px, SIDE_PX), DARK["ground"])
    write(flat, (length_px / 2, SIDE_PX / 2 - 2), text, NOTE, DARK["faint"], ANCHORS["middle"])
    return flat.transpose(Image.Transpose.ROTATE_90)
