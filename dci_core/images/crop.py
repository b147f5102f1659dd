"""Reference images: centre crop to a square, as in the published code, or to the nearest aspect-ratio bucket; masks."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import UserInputError

MOST_THUMBNAIL_PIXELS = 2_000_000
BUCKET_STEP_PX = 64
LARGEST_RATIO = 2.0


def center_square(image: Tensor, resolution: int) -> Tensor:
    """Crop the centre square and resize it; see ``center_crop``."""
    return center_crop(image, resolution, resolution)


def center_crop(image: Tensor, height_px: int, width_px: int) -> Tensor:
    """Crop the largest centred part of a shape's proportions and resize it.

    Args:
        image: [height, width, channels ≥ 3], values 0 … 1; four channels are laid on white.
        height_px, width_px: of the result in pixels.

    Returns:
        [height_px, width_px, 3], float32, values 0 … 1.

    Raises:
        UserInputError: not an image of at least 8 × 8 pixels, or not finite.
    """
    if image.ndim != 3 or image.shape[-1] < 3 or min(image.shape[:2]) < 8:
        raise UserInputError(
            f"A reference image has shape {tuple(image.shape)}; expected height × width × 3 with at least 8 × 8 pixels."
        )
    if not torch.isfinite(image).all():
        raise UserInputError("A reference image holds values that are not finite. Load it again or leave it out.")
    cropped = centre_part(on_white(image).to(torch.float32).movedim(-1, 0)[None], height_px, width_px)  # [1, 3, h, w]
    if cropped.shape[-2:] != (height_px, width_px):
        cropped = F.interpolate(cropped, size=(height_px, width_px), mode="bicubic", antialias=True).clamp(0.0, 1.0)
    return cropped[0].movedim(0, -1).contiguous()


def on_white(image: Tensor) -> Tensor:
    """Return an image without transparency: what is transparent is white, as under a cut-out lies no colour that was meant.

    Args:
        image: [height, width, channels], values 0 … 1; the fourth of four channels is alpha, 0 is transparent.

    Returns:
        [height, width, 3]; the first three channels as they are where alpha is 1, and of any other number of channels.
    """
    colours = image[..., :3]
    if not has_alpha(image):
        return colours
    alpha = image[..., 3:].clamp(0.0, 1.0)
    return colours * alpha + (1.0 - alpha)


def has_alpha(image: Tensor) -> bool:
    """Tell whether an image [height, width, channels] has a channel of transparency."""
    return image.ndim == 3 and image.shape[-1] == 4


def is_one_colour(image: Tensor) -> bool:
    """Tell whether an image [height, width, channels] shows nothing: no channel spans as much as one of 256 levels."""
    span = image.amax(dim=(0, 1)) - image.amin(dim=(0, 1))
    return bool(span.max() < 1 / 255)


def latent_mask(mask: Tensor, height_px: int, width_px: int, pixels_per_latent: int) -> Tensor:
    """Crop a mask as ``center_crop`` does its image and average it over each latent's pixels.

    Args:
        mask: where the image counts, [height, width], values 0 … 1.
        height_px, width_px: of the cropped image, multiples of ``pixels_per_latent``.
        pixels_per_latent: along an edge.

    Returns:
        [1, h, w], values 0 … 1.

    Raises:
        UserInputError: nothing of the mask is left after cropping, or it is not finite.
    """
    if not torch.isfinite(mask).all():
        raise UserInputError("A mask holds values that are not finite. Load it again or leave it out.")
    cropped = centre_part(mask.to(torch.float32).clamp(0.0, 1.0)[None, None], height_px, width_px)
    small = F.interpolate(cropped, size=(height_px // pixels_per_latent, width_px // pixels_per_latent), mode="area")
    if not small.max() > 0.0:
        raise UserInputError(
            "A mask is black wherever its cropped image is. Paint the subject white, or leave the mask out."
        )
    return small[0]


def thumbnail(image: Tensor, edge_px: int) -> Tensor:
    """Return an image, [height, width, channels] in 0 … 1, scaled down to a longer edge in pixels; a smaller one as it is."""
    height, width = image.shape[:2]
    scale = edge_px / max(height, width)
    if scale >= 1.0:
        return image
    size = [max(1, round(edge * scale)) for edge in (height, width)]
    return F.interpolate(image.movedim(-1, 0)[None], size=size, mode="area")[0].movedim(0, -1)


def thumbnail_of(image: Tensor, edge_px: int = 256) -> str:
    """Return the centre square of an image [height, width, 3] as a small JPEG in a data URL."""
    square = (center_square(image, edge_px) * 255.0).round().to(torch.uint8).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(square).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def image_of_thumbnail(url: str) -> Tensor | None:
    """Return the picture of a data URL, [height, width, 3] in 0 … 1; None where it holds none, or a far larger one than is written."""
    head, _, text = url.partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64")):
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as picture:
            if math.prod(picture.size) > MOST_THUMBNAIL_PIXELS:
                return None
            pixels = np.array(picture.convert("RGB"), dtype=np.float32)
    except (ValueError, OSError):
        return None
    return torch.from_numpy(pixels) / 255.0


def bucket_of(height: int, width: int, resolution: int) -> tuple[int, int]:
    """Return the bucket nearest to an image's proportions: edges in steps of 64 pixels, no more area than the square.

    Args:
        height, width: of the image.
        resolution: edge of the square bucket in pixels, a multiple of 64.

    Returns:
        Height and width; no side more than twice the other.
    """
    wanted = math.log(width / height)
    edges = range(BUCKET_STEP_PX, int(resolution * LARGEST_RATIO) + 1, BUCKET_STEP_PX)
    buckets = set()
    for tall in edges:
        wide = resolution * resolution // tall // BUCKET_STEP_PX * BUCKET_STEP_PX
        if wide and max(tall, wide) <= LARGEST_RATIO * min(tall, wide):
            buckets.add((tall, wide))
    return min(buckets, key=lambda bucket: (abs(math.log(bucket[1] / bucket[0]) - wanted), -bucket[0] * bucket[1]))


def centre_part(images: Tensor, height_px: int, width_px: int) -> Tensor:
    """Return the largest centred part of [B, C, H, W] with the proportions given; nothing is resized."""
    height, width = images.shape[-2:]
    scale = min(height / height_px, width / width_px)
    tall, wide = min(height, round(height_px * scale)), min(width, round(width_px * scale))
    top, left = (height - tall) // 2, (width - wide) // 2
    return images[..., top : top + tall, left : left + wide]
