"""Emoji glyphs as RGBA sprites: the objects of the demo world."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT_VARIABLE = "DCI_DEMO_FONT"
FONT_FILE = "NotoColorEmoji.ttf"
BITMAP_SIZE = 109  # the only size at which Pillow can draw this bitmap font
SPRITE_PX = 112


def font_path() -> Path:
    """Find Noto Color Emoji.

    Looks at the environment variable DCI_DEMO_FONT, then asks fontconfig, then tries Debian's folder.

    Raises:
        FileNotFoundError: the font is nowhere; the message says how to install it.
    """
    candidates: list[Path] = []
    if os.environ.get(FONT_VARIABLE):
        candidates.append(Path(os.environ[FONT_VARIABLE]))
    elif shutil.which("fc-match"):
        command = ["fc-match", "--format=%{file}", "Noto Color Emoji"]
        candidates.append(Path(subprocess.run(command, capture_output=True, text=True, check=False).stdout))
    candidates.append(Path("/usr/share/fonts/truetype/noto") / FONT_FILE)
    for candidate in candidates:
        if candidate.is_file() and "emoji" in candidate.name.lower():
            return candidate
    raise FileNotFoundError(
        f"The font {FONT_FILE} was not found (looked at {', '.join(map(str, candidates))}). Install it with "
        f"'apt-get install fonts-noto-color-emoji' or set {FONT_VARIABLE} to the file."
    )


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_path()), BITMAP_SIZE)


@cache
def sprite(character: str) -> Image.Image:
    """Draw one emoji, cropped to its ink and fitted into a transparent square.

    Args:
        character: one emoji of Noto Color Emoji.

    Returns:
        RGBA image of SPRITE_PX x SPRITE_PX pixels, shared between calls: copy before drawing on it.

    Raises:
        ValueError: the font has no picture for this character.
    """
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((0, 0), character, font=_font(), embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"The emoji font has no picture for {character!r}; choose another character.")
    ink = canvas.crop(box)
    scale = SPRITE_PX / max(ink.size)
    ink = ink.resize((round(ink.width * scale), round(ink.height * scale)), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SPRITE_PX, SPRITE_PX))
    square.paste(ink, ((SPRITE_PX - ink.width) // 2, (SPRITE_PX - ink.height) // 2))
    return square


def rotate_hue(image: Image.Image, degrees: float) -> Image.Image:
    """Turn every hue of an RGBA sprite by `degrees`; 0 changes nothing."""
    shift = round(degrees / 360.0 * 256.0) % 256
    if shift == 0:
        return image
    hue, saturation, value = image.convert("RGB").convert("HSV").split()
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    turned = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    turned.putalpha(image.getchannel("A"))
    return turned


def paint(image: Image.Image, hue_degrees: float) -> Image.Image:
    """Paint an RGBA sprite in one hue: shading is kept, dark and light parts stay dark and light.

    Args:
        image: the sprite.
        hue_degrees: hue of the paint on the colour wheel, 0 is red.
    """
    pixels = np.asarray(image, dtype=np.float32) / 255.0  # [h, w, 4]
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)  # [h, w]
    full = np.array(Image.new("HSV", (1, 1), (round(hue_degrees / 360 * 255), 225, 235)).convert("RGB"))[0, 0] / 255.0
    below = np.clip(light / 0.6, 0.0, 1.0)[..., None]  # black -> paint
    above = np.clip((light - 0.6) / 0.4, 0.0, 1.0)[..., None] * 0.65  # paint -> pale paint
    painted = (full * below) * (1.0 - above) + above
    result = np.concatenate([painted, pixels[..., 3:]], axis=-1)
    return Image.fromarray((result * 255.0).round().astype(np.uint8), "RGBA")
