"""An image file as values of sRGB: upright, by its colour profile, on white where it is transparent."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from ..errors import UserInputError
from .crop import on_white
from .folder_files import readable_formats

FIRST_FRAME = "only the first frame is read"
LAID_ON_WHITE = "laid on white where transparent"
PROFILE_UNREAD = "the colour profile cannot be read, so colours are taken as sRGB"
SAME_LEVELS = 2
"""A colour profile that moves no colour by more levels of 256 is sRGB, and its image is left as it is."""
_BLACK_POINT = 0x2000  # of littleCMS: black is matched to black
_STEPS = 17  # along each channel, of the colours that tell what a profile does
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)
"""What Pillow raises for files that are damaged, or no images."""


@dataclass(frozen=True)
class Picture:
    """What an image file holds.

    Args:
        image: [height, width, 3], values 0 … 1 of sRGB, upright by its EXIF orientation, on white where transparent.
        alpha: its transparency, [height, width], 0 is transparent; None when it has none.
        notes: what was done to it.
    """

    image: Tensor
    alpha: Tensor | None
    notes: tuple[str, ...]


def read_picture(file: Path) -> Picture:
    """Return what an image file holds; of several frames the first.

    Raises:
        UserInputError: it cannot be read; it is named.
    """
    opened, frames = _opened(file)
    try:
        has_alpha = "A" in opened.getbands() or "transparency" in opened.info
        alpha = _tensor(opened.convert("RGBA").getchannel("A")) if has_alpha else None
        converted, profile_note = to_srgb(opened)
    except ValueError as error:
        raise _unreadable(file, error) from error
    image = _tensor(converted)
    notes = [FIRST_FRAME] if frames > 1 else []
    if profile_note:
        notes.append(profile_note)
    if alpha is not None and bool((alpha < 1.0).any()):
        image = on_white(torch.cat([image, alpha[..., None]], dim=-1))
        notes.append(LAID_ON_WHITE)
    return Picture(image, alpha, tuple(notes))


def read_mask(file: Path) -> Tensor:
    """Return the brightness of an image file, [height, width], values 0 … 1, as it is written.

    Raises:
        UserInputError: it cannot be read; it is named.
    """
    opened, _ = _opened(file)
    try:
        return _tensor(opened.convert("L"))
    except ValueError as error:
        raise _unreadable(file, error) from error


def to_srgb(picture: Image.Image) -> tuple[Image.Image, str]:
    """Return a picture in the colours of sRGB by its profile, and a note on it; "" where the profile changes nothing.

    Colours are matched relative to white, and black to black.

    Args:
        picture: of a mode that Pillow converts to RGB; its transparency is left behind.

    Raises:
        ValueError: of another mode.
    """
    plain = picture.convert("RGB")
    content = picture.info.get("icc_profile")
    if not content:
        return plain, ""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(content))
        source = _in_colours_of(profile, picture, plain)
        if source is None:
            return plain, PROFILE_UNREAD
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            source.mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=_BLACK_POINT,  # type: ignore[arg-type]  # Pillow before 10.3 knows no names
        )
        if source.mode != "CMYK" and _moves_nothing(transform, source.mode):
            return plain, ""
        converted = ImageCms.applyTransform(source, transform)
        name = " ".join(ImageCms.getProfileDescription(profile).split())
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError, ImportError):
        return plain, PROFILE_UNREAD
    return plain if converted is None else converted, f"colours converted from {name or 'their profile'} to sRGB"


def _in_colours_of(profile: ImageCms.ImageCmsProfile, picture: Image.Image, plain: Image.Image) -> Image.Image | None:
    """Return a picture as its profile takes it; None when the profile is for other pictures."""
    space = profile.profile.xcolor_space.strip()
    if space == "CMYK" or picture.mode == "CMYK":
        return picture if space == picture.mode else None
    if space == "GRAY":
        return picture.convert("L") if picture.mode in ("1", "L", "LA") else None
    return plain if space == "RGB" else None


def _moves_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Tell whether a transform to RGB leaves colours of all kinds where they are, but for ``SAME_LEVELS``."""
    if mode == "L":
        levels = np.arange(256, dtype=np.uint8)[None]
    else:
        ramp = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
        levels = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(1, -1, 3)
    before = Image.fromarray(levels)
    after = ImageCms.applyTransform(before, transform)
    moved = np.asarray(after, dtype=np.int16) - np.asarray(before.convert("RGB"), dtype=np.int16)
    return int(np.abs(moved).max()) <= SAME_LEVELS


def _opened(file: Path) -> tuple[Image.Image, int]:
    """Return the first frame of an image file, upright and with at most 8 bits a channel, and how many frames there are."""
    try:
        with Image.open(file, formats=readable_formats()) as opened:
            upright = ImageOps.exif_transpose(opened)
            upright.load()
            frames = 1 if opened.format == "MPO" else int(getattr(opened, "n_frames", 1))
        return _in_eight_bits(upright), frames
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """Return a picture of 16 bits a grey value with 8 of them, and others as they are.

    Raises:
        ValueError: its values have no known white.
    """
    if picture.mode == "F":
        raise ValueError("its values are fractions, of which none is known to be white")
    if not picture.mode.startswith("I"):
        return picture
    whole = picture if picture.mode in ("I", "I;16") else picture.convert("I")
    if whole.mode == "I" and int(np.abs(np.asarray(whole)).max()) > 0xFFFF:
        raise ValueError("its values have more than 16 bits")
    grey = whole.point(lambda value: value / 256).convert("L")
    grey.info.pop("transparency", None)  # one of the 65536 values
    return grey


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)


def _unreadable(file: Path, error: Exception) -> UserInputError:
    return UserInputError(
        f"The image {file.name} cannot be read ({error}). Save it again as PNG or JPEG, or take it out of the folder."
    )
