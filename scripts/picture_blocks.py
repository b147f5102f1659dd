"""What the demo's picture is put together from: texts below each other, cards, and labels with their mark of the plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chart import Chart, Dot, draw
from lettering import width_of, wrap, write
from palette import DARK, Role, dial_colour
from PIL import Image, ImageDraw

GAP_PX, CARD_GAP_PX, PADDING_PX = 8, 24, 26
TITLE, PROMPT, HEADING, BODY, NOTE = 56, 34, 26, 24, 21
"""Sizes of the letters, in pixels."""
LINE = 1.45  # line height, in sizes of the letters
MARK_PX = 20  # room for a mark before its label
CODE_PX = 12  # room around a command


@dataclass(frozen=True)
class Text:
    """Some words of one kind.

    Args:
        text: any length.
        size: of the letters, in pixels.
        role: of its colour.
        bold_px: by which strokes are wider at each side.
        marked: words in it that have the accent's colour; "" for none.
    """

    text: str
    size: int
    role: Role = "ink"
    bold_px: int = 0
    marked: str = ""


def texts_block(texts: Sequence[Text], width_px: int, ground: Role) -> Image.Image:
    """Return texts below each other on a ground, each wrapped to the width."""
    lines = [(text, line) for text in texts for line in wrap(text.text, text.size, width_px)]
    canvas = Image.new("RGB", (width_px, round(sum(text.size * LINE for text, _ in lines))), DARK[ground])
    y = 0.0
    for text, line in lines:
        x, middle = 0.0, y + text.size * LINE / 2
        before, marked, after = line.partition(text.marked) if text.marked else (line, "", "")
        for part, colour in ((before, DARK[text.role]), (marked, DARK["accent"]), (after, DARK[text.role])):
            x = write(canvas, (x, middle), part, text.size, colour, bold_px=text.bold_px)
        y += text.size * LINE
    return canvas


def code_block(command: str, width_px: int) -> Image.Image:
    """Return a command in a box, for a card."""
    lines = texts_block([Text(command, BODY)], width_px - 2 * CODE_PX, "ground")
    box = Image.new("RGB", (width_px, lines.height + 2 * CODE_PX), DARK["card"])
    ImageDraw.Draw(box).rounded_rectangle((0, 0, box.width - 1, box.height - 1), CODE_PX, DARK["ground"], DARK["line"])
    box.paste(lines, (CODE_PX, CODE_PX))
    return box


def card(blocks: Sequence[Image.Image], width_px: int, height_px: int = 0) -> Image.Image:
    """Return blocks below each other on a card.

    Args:
        blocks: at most as wide as the card without its padding.
        width_px: of the card.
        height_px: of the card, at least.
    """
    content = stacked(blocks, 10, "card")
    height = max(height_px, 2 * PADDING_PX + content.height)
    canvas = Image.new("RGB", (width_px, height), DARK["ground"])
    ImageDraw.Draw(canvas).rounded_rectangle((0, 0, width_px - 1, height - 1), 16, DARK["card"], DARK["line"])
    canvas.paste(content, (PADDING_PX, PADDING_PX))
    return canvas


def stacked(blocks: Sequence[Image.Image], gap_px: int, ground: Role) -> Image.Image:
    """Return blocks below each other, one at least, with that gap between them."""
    size = (max(block.width for block in blocks), sum(block.height + gap_px for block in blocks) - gap_px)
    canvas = Image.new("RGB", size, DARK[ground])
    y = 0
    for block in blocks:
        canvas.paste(block, (0, y))
        y += block.height + gap_px
    return canvas


def marked_label(label: str, size: float, position: float | None, ground: Role) -> Image.Image:
    """Return a label behind the mark that its column has in the plot of scores.

    Args:
        label: of the column.
        size: of the letters, in pixels.
        position: of the column on the dial; None for the one without DCI.
        ground: that it is pasted on.
    """
    dot = Dot((10, 10), "ink", filled=False, radius=6.5) if position is None else Dot((10, 10), dial_colour(position))
    height = round(size * LINE)
    canvas = Image.new("RGB", (round(MARK_PX + 7 + width_of(label, size)), height), DARK[ground])
    canvas.paste(draw(Chart(20, 20, "", (dot,)), MARK_PX, ground), (0, (height - MARK_PX) // 2))
    write(canvas, (MARK_PX + 7, height / 2), label, size, DARK["ink"])
    return canvas
