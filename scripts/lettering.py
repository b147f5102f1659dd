"""Texts in pictures, in the font that Pillow brings: it has the letters of English, and what it lacks is spelt in those.

λ is drawn; accents go, and a sign that cannot be spelt is a question mark.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from functools import cache

from PIL import Image, ImageDraw, ImageFont

LAMBDA = "λ"
LAMBDA_WIDTH = 0.5  # of the size of the letters, with the space around it
ANCHORS = {"start": 0.0, "middle": 0.5, "end": 1.0}
"""How much of a text's width lies left of its place."""
_SPELT = {"−": "-", "–": "-", "—": "-", "×": "x", "→": "->", "ß": "ss", "⁄": "/"}  # where the font lacks them
_UNKNOWN = "?"
_NO_LETTER = "\U0010ffff"  # no font has it, and its picture is the box of a missing glyph
_FINENESS = 4


@cache
def font_of(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, which needs no file on the machine; the size in pixels."""
    return ImageFont.load_default(size)


def width_of(text: str, size: float) -> float:
    """Return how wide a line of text is, in pixels, at a size in pixels."""
    font = font_of(size)
    return sum(size * LAMBDA_WIDTH if part == LAMBDA else font.getlength(part) for part in _parts(text))


def wrap(text: str, size: float, width_px: float) -> list[str]:
    """Return a text as lines that are not wider than that; a word that is wider is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if width_of(longer, size) <= width_px:
            line = longer
            continue
        lines += [line] if line else []
        line = word
        while width_of(line, size) > width_px and len(line) > 1:
            fitting = _fitting(line, size, width_px)
            lines.append(line[:fitting])
            line = line[fitting:]
    return [*lines, line] if line or not lines else lines


def write(
    canvas: Image.Image,
    at: tuple[float, float],
    text: str,
    size: float,
    colour: str,
    left_of_place: float = 0.0,
    bold_px: int = 0,
) -> float:
    """Write a line of text into a picture.

    Args:
        canvas: the picture.
        at: its place in pixels; vertically the middle of the capital letters.
        text: one line.
        size: of the letters in pixels.
        colour: "#rrggbb".
        left_of_place: share of the width that lies left of the place; 0 starts there.
        bold_px: by which each stroke is wider at each side; 0 is as the font has it.

    Returns:
        where it ends, in pixels from the left.
    """
    draw, font = ImageDraw.Draw(canvas), font_of(size)
    x = at[0] - left_of_place * width_of(text, size)
    base = at[1] + 0.36 * size
    for part in _parts(text):
        if part == LAMBDA:
            _write_lambda(draw, (x, base), size, colour)
            x += size * LAMBDA_WIDTH
        else:
            draw.text((x, base), part, colour, font, anchor="ls", stroke_width=bold_px)
            x += font.getlength(part)
    return x


def _fitting(text: str, size: float, width_px: float) -> int:
    """Return how many letters of a text are not wider than that, one at least."""
    return max(1, bisect_right(range(1, len(text)), width_px, key=lambda count: width_of(text[:count], size)))


def _parts(text: str) -> list[str]:
    plain = "".join(map(_spelt, text))
    return [part for part in re.split(f"({LAMBDA})", plain) if part]


@cache
def _spelt(letter: str) -> str:
    """Return a letter as the font can write it, without its accents where need be; a λ, which is drawn, stays."""
    if letter == LAMBDA or _has(letter):
        return letter
    parts = [part for part in unicodedata.normalize("NFKD", letter) if unicodedata.category(part) not in ("Mn", "Cf")]
    spelt = "".join(_SPELT.get(part, part) for part in parts)
    return spelt if all(map(_has, spelt)) else _UNKNOWN


@cache
def _has(letter: str) -> bool:
    """Tell whether the font has a glyph for a letter."""
    font = font_of(16.0)
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NO_LETTER))


def _write_lambda(draw: ImageDraw.ImageDraw, at: tuple[float, float], size: float, colour: str) -> None:
    """Draw a λ that stands at a point of the base line: a stroke from above left, and a leg from its middle."""
    unit = size * _FINENESS
    width, height = math.ceil(0.5 * unit), math.ceil(0.8 * unit)
    mask = Image.new("L", (width, height))
    pen, stroke = ImageDraw.Draw(mask), max(1, round(0.078 * unit))
    base = height - stroke / 2
    stem = [(0.04, 0.70), (0.10, 0.70), (0.15, 0.63), (0.34, 0.06), (0.38, 0.0), (0.44, 0.0)]
    pen.line([(x * unit, base - y * unit) for x, y in stem], 255, stroke, joint="curve")
    pen.line([(0.235 * unit, base - 0.38 * unit), (0.06 * unit, base + stroke / 2)], 255, stroke)
    small = mask.resize((math.ceil(width / _FINENESS), math.ceil(height / _FINENESS)), Image.Resampling.LANCZOS)
    draw.bitmap((round(at[0]), round(at[1] - small.height)), small, colour)
