"""The loss of a run as a picture: each step, their running mean, and the evaluations on fixed noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from .drawing import label_font, nice_ticks, to_tensor

WIDTH_PX, HEIGHT_PX, MARGIN_PX = 840, 520, 56
MOST_TICKS = 7
WINDOW = 20  # steps that the mean is taken over
INK, FAINT, MEAN, EVALUATED, DRIFT, BEST = "#333333", "#c3cbd6", "#3566b8", "#d9822b", "#8a56ac", "#2e9e5b"


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of each value and those before it, ``window`` at most."""
    return [sum(values[max(0, i + 1 - window) : i + 1]) / min(window, i + 1) for i in range(len(values))]


def draw_loss_curve(losses: Sequence[float], evaluations: Sequence[Mapping[str, float]] = ()) -> Tensor:
    """Draw a run's losses.

    Args:
        losses: of every step, one at least, finite.
        evaluations: "step", "loss" and perhaps "drift" of each.

    Returns:
        [1, 520, 840, 3], float32, values 0 … 1.
    """
    curves: list[tuple[str, str, list[tuple[float, float]]]] = [
        (FAINT, "each step", list(enumerate(losses, 1))),
        (MEAN, f"mean of {WINDOW}", list(enumerate(running_mean(losses, WINDOW), 1))),
        (EVALUATED, "fixed noise", [(entry["step"], entry["loss"]) for entry in evaluations]),
        (DRIFT, "drift (class images)", [(entry["step"], entry["drift"]) for entry in evaluations if "drift" in entry]),
    ]
    values = [value for _, _, points in curves for _, value in points]
    ticks = nice_ticks(*_limits(min(values), max(values)), MOST_TICKS)
    low, high = ticks[0], ticks[-1]
    picture = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), "white")
    draw, font = ImageDraw.Draw(picture), label_font(13)

    def place(step: float, value: float) -> tuple[float, float]:
        x = MARGIN_PX + (step - 1) / max(len(losses) - 1, 1) * (WIDTH_PX - 2 * MARGIN_PX)
        return x, HEIGHT_PX - MARGIN_PX - (value - low) / (high - low) * (HEIGHT_PX - 2 * MARGIN_PX)

    for value in ticks:
        y = place(1, value)[1]
        draw.line([(MARGIN_PX, y), (WIDTH_PX - MARGIN_PX, y)], "#eeeeee")
        draw.text((MARGIN_PX - 8, y), f"{value:g}", INK, font, anchor="rm")
    for step in _shown_steps(len(losses)):
        draw.text((place(step, low)[0], HEIGHT_PX - MARGIN_PX + 12), f"{step}", INK, font, anchor="mt")
    draw.text((WIDTH_PX / 2, HEIGHT_PX - 16), "step", INK, font, anchor="mm")
    left = MARGIN_PX
    for color, name, points in curves:
        if points:
            _draw_curve(draw, color, [place(*point) for point in points], dots=color in (EVALUATED, DRIFT))
            draw.line([(left, 24), (left + 18, 24)], color, 4)
            draw.text((left + 24, 24), name, INK, font, anchor="lm")
            left += 170
    best = min(evaluations, key=lambda entry: entry["loss"], default=None)
    if best is not None:
        x, y = place(best["step"], best["loss"])
        draw.ellipse([(x - 7, y - 7), (x + 7, y + 7)], outline=BEST, width=3)
        draw.text((left, 24), f"best: step {best['step']:.0f}", BEST, font, anchor="lm")
    return to_tensor(picture)[None]


def _shown_steps(count: int) -> list[int]:
    """The first and last step, and round ones between that leave room for their numbers."""
    if count < 2:
        return [1]
    between = [round(tick) for tick in nice_ticks(1, count, MOST_TICKS) if tick == round(tick)]
    room = 0.05 * count
    return [1, *(step for step in between if 1 + room < step < count - room), count]


def _draw_curve(draw: ImageDraw.ImageDraw, color: str, points: list[tuple[float, float]], dots: bool) -> None:
    draw.line(points, color, 2)
    if dots or len(points) == 1:
        for x, y in points:
            draw.ellipse([(x - 3, y - 3), (x + 3, y + 3)], color)


def _limits(low: float, high: float) -> tuple[float, float]:
    """Return limits a little outside the values, apart from each other."""
    margin = 0.05 * max(high - low, abs(high) * 0.1, 1e-6)
    return low - margin, high + margin
