"""Draw scenes of the demo world, 128 x 128, with the exact mask of the main object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from demo_world.contexts import SIZE_PX, paint_context
from demo_world.glyphs import paint, rotate_hue, sprite
from demo_world.scenes import Scene
from demo_world.styles import apply_style
from demo_world.vocabulary import COLOURS, NOUNS

TILT_DEGREES = 14.0
HUE_JITTER_DEGREES = 7.0


@dataclass(frozen=True)
class Picture:
    """A drawn scene.

    Args:
        image: [SIZE_PX, SIZE_PX, 3], uint8 RGB.
        foreground: [SIZE_PX, SIZE_PX], uint8, 255 where an object covers the background.
    """

    image: NDArray[np.uint8]
    foreground: NDArray[np.uint8]


@dataclass(frozen=True)
class _Spot:
    """Where an object goes: centre and longest side in pixels."""

    x_px: float
    y_px: float
    size_px: float


def _spots(pair: bool, rng: np.random.Generator) -> tuple[_Spot, _Spot]:
    """Places of the main object and of its companion; a lone object uses the first only."""
    if not pair:
        size = rng.uniform(66.0, 92.0)
        reach = max(0.0, SIZE_PX / 2 - size / 2 - 4.0)
        x, y = SIZE_PX / 2 + rng.uniform(-1.0, 1.0, 2) * (reach, min(reach, 14.0))
        return _Spot(x, y, size), _Spot(x, y, size)
    side = 1.0 if rng.random() < 0.5 else -1.0
    first = _Spot(SIZE_PX / 2 - side * rng.uniform(22.0, 26.0), 62.0 + rng.uniform(-8.0, 8.0), rng.uniform(62.0, 74.0))
    second = _Spot(
        SIZE_PX / 2 + side * rng.uniform(36.0, 40.0), 82.0 + rng.uniform(-10.0, 14.0), rng.uniform(40.0, 46.0)
    )
    return first, second


def _place(glyph: Image.Image, spot: _Spot, rng: np.random.Generator) -> Image.Image:
    """A transparent layer with the sprite flipped, tilted, jittered in colour and put in its place."""
    if rng.random() < 0.5:
        glyph = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    glyph = rotate_hue(glyph, rng.uniform(-HUE_JITTER_DEGREES, HUE_JITTER_DEGREES))
    brightness, tilt = rng.uniform(0.92, 1.06), np.deg2rad(rng.uniform(-TILT_DEGREES, TILT_DEGREES))
    alpha = glyph.getchannel("A")
    glyph = ImageEnhance.Brightness(glyph.convert("RGB")).enhance(brightness)
    glyph.putalpha(alpha)
    # Affine map from layer pixels back to sprite pixels; shrinking first keeps the sampling smooth.
    side = round(spot.size_px)
    small = glyph.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    cos, sin = float(np.cos(tilt)), float(np.sin(tilt))
    shift_x = side / 2 - cos * spot.x_px - sin * spot.y_px
    shift_y = side / 2 + sin * spot.x_px - cos * spot.y_px
    matrix = (cos, sin, shift_x, -sin, cos, shift_y)
    return small.transform((SIZE_PX, SIZE_PX), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def draw(scene: Scene, rng: np.random.Generator, main_sprite: Image.Image | None = None) -> Picture:
    """Draw a scene; the same scene and generator state give the same bytes.

    Args:
        scene: what the picture shows.
        rng: all randomness (place, size, tilt, flip, tints, textures).
        main_sprite: drawn instead of the noun's own glyph, e.g. a custom concept; None is neutral.
    """
    canvas = Image.fromarray(np.clip(paint_context(scene.context, rng), 0, 255).astype(np.uint8), "RGB")
    main = main_sprite if main_sprite is not None else sprite(NOUNS[scene.noun])
    hue = COLOURS[scene.colour]
    if hue is not None:
        main = paint(main, hue)
    first, second = _spots(scene.second_noun is not None, rng)
    layers = [_place(main, first, rng)]
    if scene.second_noun is not None:
        layers.append(_place(sprite(NOUNS[scene.second_noun]), second, rng))
    foreground = np.zeros((SIZE_PX, SIZE_PX), dtype=np.uint8)
    for layer in layers:
        canvas.paste(layer, (0, 0), layer)
        foreground = np.maximum(foreground, np.asarray(layer.getchannel("A")))
    return Picture(np.asarray(apply_style(scene.style, canvas)), foreground)


def render(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a scene and return only the picture, [SIZE_PX, SIZE_PX, 3], uint8 RGB."""
    return draw(scene, rng).image
