"""What the nodes draw, for the pictures of their help pages: of made-up numbers, and of pictures that are in the checkout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from comfyui_dci.dci_core.pictures.drawing import BACKGROUND, FAINT, INK, label_font, to_pil, to_tensor
from comfyui_dci.dci_core.pictures.loss_curve import draw_loss_curve
from comfyui_dci.dci_core.pictures.mask_picture import View, draw_masks
from comfyui_dci.dci_core.pictures.sweep import draw_sweep, strength_label
from comfyui_dci.dci_core.sampling.masks import BlendMasks, CallMasks
from comfyui_dci.dci_core.sampling.strength import MapScale, StrengthSchedule
from PIL import Image, ImageDraw
from torch import Tensor

from workbench.pack import ROOT

SUBJECT = "parrot"
SUBJECTS = ROOT / "demo_world" / "release" / "subjects"
DEMO = ROOT / "docs" / "demo.jpg"
DEMO_SIZE, CELL_PX = (1200, 787), 156
PLAIN_LEFT, LEFTS, TOP = 164, (347, 512, 677, 842, 1007), 433
"""Where the second row of ``docs/demo.jpg`` has its pictures: without DCI, and for each λ."""
STRENGTHS = (-2, -1, 0, 1, 2)
SCHEDULE = StrengthSchedule(
    full_maps=-1.0, half_maps=-0.35, quarter_maps=0.35, eighth_maps=1.0, at_start=1.0, at_end=-0.5
)
CURVES = {
    MapScale.FULL: "#e6a15c",
    MapScale.HALF: "#8f959f",
    MapScale.QUARTER: "#6ea8d8",
    MapScale.EIGHTH: "#7cc08a",
}
PLOT_PX, PLOT_MARGIN_PX, WIDEST_STRENGTH = (440, 240), 40, 2.5
LOSS_PX = (480, 297)


def subject_pictures() -> list[Image.Image]:
    """Return the reference images of a bundled subject."""
    return [Image.open(file).convert("RGB") for file in sorted((SUBJECTS / SUBJECT).glob("*.webp"))]


def draw_subject() -> Image.Image:
    """Return the reference images side by side in two rows."""
    pictures = [picture.resize((120, 120), Image.Resampling.LANCZOS) for picture in subject_pictures()]
    canvas = Image.new("RGB", (3 * 124 - 4, 2 * 124 - 4), BACKGROUND)
    for place, picture in enumerate(pictures):
        canvas.paste(picture, (place % 3 * 124, place // 3 * 124))
    return canvas


def draw_folder() -> Image.Image:
    """Return images of a folder with a made-up name and caption each."""
    captions = ("on a white ground", "on a wooden table", "on grass")
    pictures = [to_tensor(picture.resize((120, 120))) for picture in subject_pictures()[:3]]
    return to_pil(
        draw_sweep(
            [pictures], [f"parrot_{number}.png" for number in (1, 2, 3)], [""], f"captions: {', '.join(captions)}"
        )
    )


def draw_loss() -> Image.Image:
    """Return the loss curve of a made-up run of 900 steps."""
    noise = torch.randn(900, generator=torch.Generator().manual_seed(0)).mul(0.025).tolist()
    losses = [0.09 + 0.05 * math.exp(-step / 180) + abs(shake) for step, shake in enumerate(noise)]
    evaluations = [
        {"step": float(step), "loss": 0.095 + 0.05 * math.exp(-step / 160) + 1.2e-5 * max(step - 600, 0)}
        for step in range(100, 901, 100)
    ]
    return to_pil(draw_loss_curve(losses, evaluations)[0]).resize(LOSS_PX, Image.Resampling.LANCZOS)


def draw_made_up_masks() -> Image.Image:
    """Return what Mask Visualizer makes of smooth made-up masks: the subject's say falls off around its place."""
    picture = subject_pictures()[2]
    calls = [
        CallMasks(
            1.0, 0.0, {(size, size): _say(size, 0.05 * number)[None, None] for size in (8, 16, 32)}, number, number, 20
        )
        for number in (1, 2, 3, 4)
    ]
    return to_pil(draw_masks(View.AVERAGE, BlendMasks(tuple(calls)), to_tensor(picture), overlay=0.7, cell_px=220))


def draw_demo(with_dci: Sequence[int], row_label: str) -> Image.Image:
    """Return pictures of the demo as a sweep: without DCI, and with some λ.

    Args:
        with_dci: places in STRENGTHS.
        row_label: what stands at the left.

    Raises:
        SystemExit: the demo's picture is another one.
    """
    demo = Image.open(DEMO).convert("RGB")
    if demo.size != DEMO_SIZE:
        raise SystemExit(f"{DEMO} has {demo.size} pixels, not {DEMO_SIZE}: tell where its pictures are now.")
    lefts = [PLAIN_LEFT, *(LEFTS[place] for place in with_dci)]
    cells = [to_tensor(demo.crop((left, TOP, left + CELL_PX, TOP + CELL_PX))) for left in lefts]
    labels = ["no DCI", *(strength_label(STRENGTHS[place]) for place in with_dci)]
    return to_pil(draw_sweep([cells], labels, [row_label], "demo model, active_fraction 0.5"))


def draw_schedule() -> Image.Image:
    """Return the λ of each map size over the active part of a run at λ 0."""
    width, height = PLOT_PX
    canvas = Image.new("RGB", PLOT_PX, BACKGROUND)
    draw, font, left, right = ImageDraw.Draw(canvas), label_font(12), PLOT_MARGIN_PX, width - 110

    def place(progress: float, strength: float) -> tuple[float, float]:
        rise = (strength + WIDEST_STRENGTH) / (2 * WIDEST_STRENGTH)
        return left + progress * (right - left), height - 30 - rise * (height - 50)

    for strength in (-2, -1, 0, 1, 2):
        draw.line([place(0, strength), place(1, strength)], "#3a3c42")
        draw.text((left - 8, place(0, strength)[1]), f"{strength}", FAINT, font, anchor="rm")
    for scale, colour in CURVES.items():
        points = [place(progress, SCHEDULE.strength(0.0, scale, progress)) for progress in (0.0, 1.0)]
        draw.line(points, colour, 3)
        draw.text((right + 8, points[1][1]), f"{scale.value}_maps", colour, font, anchor="lm")
    for progress, name in ((0.0, "at_start"), (1.0, "at_end")):
        draw.text((place(progress, 0)[0], height - 14), name, INK, font, anchor="mm")
    draw.text((left, 10), "lambda by map size", INK, font, anchor="lm")
    return canvas


DRAWINGS: dict[str, Callable[[], Image.Image]] = {
    "DCIDemoSubject": draw_subject,
    "DCILoadImageFolder": draw_folder,
    "ICOTrainer": draw_loss,
    "MaskVisualizer": draw_made_up_masks,
    "DCILambdaSweep": lambda: draw_demo((0, 2, 4), "seed 1"),
    "DCISampler": lambda: draw_demo((1, 4), "seed 1"),
    "DCIStrengthSchedule": draw_schedule,
}
"""By the id of the node that draws such."""


def _say(size: int, shift: float) -> Tensor:
    """Return W_a of a map, [size, size]: least where the subject is, and more everywhere by a shift."""
    places = (torch.arange(size) + 0.5) / size
    far = ((places[None] - 0.64) / 0.24) ** 2 + ((places[:, None] - 0.6) / 0.28) ** 2
    return 0.34 + shift - 0.3 * torch.exp(-far)
