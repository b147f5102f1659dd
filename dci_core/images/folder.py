"""Read and write images with their masks and captions in a folder, as trainers keep them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import UserInputError
from ..files import write_atomically

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MASK_ENDINGS = ("_mask", "-masklabel")


@dataclass(frozen=True)
class FolderImage:
    """One image of a folder.

    Args:
        name: of its file.
        image: [height, width, 3], values 0 … 1, upright by its EXIF orientation.
        mask: where it counts, [height, width], values 0 … 1; all ones without one.
        caption: text of the file beside it, or "".
    """

    name: str
    image: Tensor
    mask: Tensor
    caption: str


def read_image_folder(folder: Path) -> list[FolderImage]:
    """Return the images of a folder in order of their names.

    ``cat_mask.png`` (or ``cat-masklabel.png``) is the mask of ``cat.jpg``, white where it counts; without one, the
    image's own transparency is. ``cat_mask.png`` without a ``cat`` is an image like any other. ``cat.txt`` is its caption.

    Raises:
        UserInputError: there is no such folder or no image in it, or a file cannot be read; the file is named.
    """
    if not folder.is_dir():
        raise UserInputError(f"There is no folder {folder.name!r}. Choose one of the list.")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS and file.is_file())
    stems = {file.stem for file in files}
    masks = {_subject(file): file for file in files if _subject(file) in stems}
    images = [_read(file, masks.get(file.stem)) for file in files if _subject(file) not in stems]
    if not images:
        raise UserInputError(f"The folder {folder.name!r} holds no image ({', '.join(ENDINGS)}). Put some in.")
    return images


def read_image(file: Path) -> FolderImage:
    """Return one image with the caption and transparency it has.

    Raises:
        UserInputError: the image or its caption cannot be read; the file is named.
    """
    return _read(file, None)


def write_image(image: Tensor, caption: str, file: Path) -> None:
    """Write an image as PNG with its caption beside it, as `read_image` reads them; the PNG appears last, and whole.

    Args:
        image: [height, width, 3], values 0 … 1; it is rounded to 8 bits.
        caption: one line.
        file: ends in ".png"; missing folders are made.
    """
    pixels = (image.detach().cpu().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).numpy()
    write_atomically(file.with_suffix(".txt"), lambda part: part.write_text(caption + "\n", encoding="utf-8"))
    write_atomically(file, lambda part: Image.fromarray(pixels).save(part, format="PNG"))


def _subject(file: Path) -> str | None:
    """Return the stem of the image that a file would be the mask of, by its name; None for other names."""
    return next((file.stem.removesuffix(ending) for ending in MASK_ENDINGS if file.stem.endswith(ending)), None)


def _read(file: Path, mask_file: Path | None) -> FolderImage:
    picture = _opened(file)
    alpha = (
        picture.convert("RGBA").getchannel("A") if "A" in picture.getbands() or "transparency" in picture.info else None
    )
    mask = alpha if mask_file is None else _opened(mask_file).convert("L")
    image = _tensor(picture.convert("RGB"))
    if mask is not None and mask.size != picture.size:
        raise UserInputError(
            f"The mask {mask_file.name if mask_file else file.name} is {mask.size[0]} × {mask.size[1]} pixels, its image "
            f"{file.name} is {picture.size[0]} × {picture.size[1]}. Make them the same size."
        )
    caption = file.with_suffix(".txt")
    try:
        text = caption.read_text(encoding="utf-8").strip() if caption.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserInputError(f"The caption {caption.name} cannot be read ({error}). Save it as UTF-8 text.") from error
    return FolderImage(file.name, image, torch.ones(image.shape[:2]) if mask is None else _tensor(mask), text)


def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            upright.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserInputError(
            f"The image {file.name} cannot be read ({error}). Save it again as PNG or JPEG, or take it out of the folder."
        ) from error
    return upright.point(lambda value: value / 256).convert("L") if upright.mode.startswith("I") else upright


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)
