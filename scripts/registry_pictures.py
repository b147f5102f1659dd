"""Draw what the registry shows of this pack: docs/icon.png and docs/banner.jpg, of a bundled subject and the dial.

python scripts/registry_pictures.py     in the environment that ComfyUI runs in
"""

from __future__ import annotations

from comfy_install import ROOT
from lettering import ANCHORS, write
from palette import DARK, dial_colour
from PIL import Image, ImageDraw

ICON, BANNER = ROOT / "docs" / "icon.png", ROOT / "docs" / "banner.jpg"
ICON_PX = 400
BANNER_PX = (1260, 540)  # 21 : 9
SUBJECT = ROOT / "demo_world" / "release" / "subjects" / "parrot"
SHOWN = (1, 3, 2, 6)
"""The subject's pictures on the banner."""
CUT = (13, 80, 229, 242)
"""Of the first picture, around the subject, 4 : 3, in pixels."""
FINENESS = 3  # drawn so much larger, for smooth edges


def main() -> int:
    """Draw both files; returns the exit status."""
    icon().save(ICON, "PNG", optimize=True)
    banner().save(BANNER, "JPEG", quality=88, optimize=True)
    for file in (ICON, BANNER):
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e3:.0f} kB")
    return 0


def icon() -> Image.Image:
    """Return the subject over the dial."""
    above = 3 * ICON_PX // 4
    canvas = Image.new("RGB", (ICON_PX, ICON_PX))
    canvas.paste(subject(1).crop(CUT).resize((ICON_PX, above), Image.Resampling.LANCZOS))
    canvas.paste(dial(ICON_PX, ICON_PX - above, 0.7, round(0.11 * ICON_PX)), (0, above))
    return canvas


def banner() -> Image.Image:
    """Return what the pack promises, with the dial below, beside pictures of the subject."""
    width, height = BANNER_PX
    canvas = Image.new("RGB", BANNER_PX, DARK["ground"])
    edge, gap = height // 2 - 36, 16
    for number, name in enumerate(SHOWN):
        picture = subject(name).resize((edge, edge), Image.Resampling.LANCZOS)
        across, down = number % 2, number // 2
        place = (width - 28 - (2 - across) * edge - (1 - across) * gap, 28 + down * (edge + gap))
        canvas.paste(picture, place, rounded(edge, edge // 12))
    left, room = 64, width - 2 * edge - 2 * 64 - gap
    write(canvas, (left, 120), "DCI", 112, DARK["accent"], bold_px=2)
    write(canvas, (left, 226), "Your own subject,", 54, DARK["ink"], bold_px=1)
    write(canvas, (left, 292), "and the prompt obeyed", 54, DARK["ink"], bold_px=1)
    canvas.paste(dial(room, 110, 0.7, 44, inset=24), (left - 24, 350))
    write(canvas, (left, 478), "likeness", 32, DARK["faint"])
    write(canvas, (left - 48 + room, 478), "obedience", 32, DARK["faint"], ANCHORS["end"])
    return canvas


def subject(number: int) -> Image.Image:
    """Return a picture of the subject."""
    with Image.open(SUBJECT / f"{number}.webp") as opened:
        return opened.convert("RGB")


def dial(width: int, height: int, position: float, knob_px: int, inset: int = 44) -> Image.Image:
    """Return the dial, from the colour of the smallest λ to that of the largest, with its knob and λ on it.

    Args:
        width, height: of the picture in pixels.
        position: of the knob, 0 … 1.
        knob_px: its radius.
        inset: of the ends of the dial from the sides, in pixels.
    """
    large = Image.new("RGB", (width * FINENESS, height * FINENESS), DARK["ground"])
    draw = ImageDraw.Draw(large)
    middle, half = height * FINENESS / 2, 6 * FINENESS
    start, end = inset * FINENESS, (width - inset) * FINENESS
    for x, colour in ((start, dial_colour(0.0)), (end, dial_colour(1.0))):
        draw.ellipse((x - half, middle - half, x + half, middle + half), colour)
    for x in range(start, end):
        draw.line((x, middle - half, x, middle + half), dial_colour((x - start) / (end - start)))
    knob, radius = start + position * (end - start), knob_px * FINENESS
    draw.ellipse((knob - radius, middle - radius, knob + radius, middle + radius), DARK["ink"])
    canvas = large.resize((width, height), Image.Resampling.LANCZOS)
    write(canvas, (knob / FINENESS, height / 2), "λ", 1.5 * knob_px, DARK["ground"], ANCHORS["middle"])
    return canvas


def rounded(edge: int, radius: int) -> Image.Image:
    """Return the mask of a square with round corners."""
    large = Image.new("L", (edge * FINENESS, edge * FINENESS))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, large.width - 1, large.height - 1), radius * FINENESS, 255)
    return large.resize((edge, edge), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    raise SystemExit(main())
