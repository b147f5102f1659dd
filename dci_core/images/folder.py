"""Read and write images with their masks and captions in a folder, as trainers keep them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..errors import UserInputError
from ..files import write_atomically
from .caption_file import read_caption
from .folder_files import FolderFiles, ImageFiles, files_of, names_text
from .picture import LAID_ON_WHITE, read_mask, read_picture

TRANSPARENCY_IS_MASK = "the transparency is the mask"
MASK_FILE_IS_MASK = "the mask is the mask file"


@dataclass(frozen=True)
class FolderImage:
    """One image of a folder.

    Args:
        name: of its file.
        image: [height, width, 3], values 0 … 1 of sRGB, upright by its EXIF orientation, on white where transparent.
        mask: where it counts, [height, width], values 0 … 1; all ones without one.
        caption: text of the file beside it, or "".
        notes: what was done to it; nothing in most cases.
    """

    name: str
    image: Tensor
    mask: Tensor
    caption: str
    notes: tuple[str, ...] = ()


def read_image_folder(folder: Path) -> list[FolderImage]:
    """Return the images of a folder in order of their names.

    ``cat_mask.png`` (or ``cat-masklabel.png``) is the mask of ``cat.jpg``, white where it counts; without one, the
    image's own transparency is. ``cat_mask.png`` without a ``cat`` is an image like any other. ``cat.txt`` (or
    ``cat.caption``) is its caption.

    Raises:
        UserInputError: there is no such folder or no image in it, or a file cannot be read; the file is named.
    """
    images, _ = read_and_report(folder)
    return images


def read_and_report(folder: Path) -> tuple[list[FolderImage], str]:
    """Return what ``read_image_folder`` does, and a text: what was found, what was left out, and what was done to images.

    Raises:
        UserInputError: as there.
    """
    files = files_of(folder)
    texts = {file: read_caption(file) for some in files.images for file in some.captions}
    left = sorted({*files.left_out, *texts} - {_taken(some, texts) for some in files.images})
    unread = [f"not read: {names_text([file.name for file in left])}"] if left else []
    if not files.images:
        raise UserInputError(
            "\n".join([f"The folder {folder.name!r} holds no image. Put some in.", *unread, *files.remarks()])
        )
    images = [_read(some, texts) for some in files.images]
    first = "; ".join([_counts(files, texts), *unread])
    return images, "\n".join([first, *files.remarks(), *_on_captions(files, texts), *_notes(images)])


def read_image(file: Path) -> FolderImage:
    """Return one image with the caption in its text file and the transparency it has.

    Raises:
        UserInputError: the image or its caption cannot be read; the file is named.
    """
    caption = file.with_suffix(".txt")
    texts = {caption: read_caption(caption)} if caption.is_file() else {}
    return _read(ImageFiles(file, None, tuple(texts)), texts)


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


def _read(files: ImageFiles, texts: Mapping[Path, str]) -> FolderImage:
    picture = read_picture(files.image)
    height, width = picture.image.shape[:2]
    mask = picture.alpha if files.mask is None else read_mask(files.mask)
    if files.mask is not None and mask is not None and mask.shape != (height, width):
        raise UserInputError(
            f"The mask {files.mask.name} is {mask.shape[1]} × {mask.shape[0]} pixels, its image {files.image.name} is "
            f"{width} × {height} pixels. Make them the same size."
        )
    notes = picture.notes
    if LAID_ON_WHITE in notes:
        notes = (*notes, TRANSPARENCY_IS_MASK if files.mask is None else MASK_FILE_IS_MASK)
    taken = _taken(files, texts)
    caption = "" if taken is None else texts[taken]
    everywhere = torch.ones(height, width)
    return FolderImage(files.image.name, picture.image, everywhere if mask is None else mask, caption, notes)


def _taken(files: ImageFiles, texts: Mapping[Path, str]) -> Path | None:
    """Return the file that holds the caption of an image: the first with a text in it."""
    return next((file for file in files.captions if texts[file]), None)


def _counts(files: FolderFiles, texts: Mapping[Path, str]) -> str:
    masks = {some.mask for some in files.images if some.mask is not None}
    captions = {file for some in files.images if (file := _taken(some, texts)) is not None}
    counts = {"image": len(files.images), "mask": len(masks), "caption": len(captions)}
    parts = [f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count]
    total = sum(counts.values())
    return f"{total} file{'s' * (total > 1)}: {', '.join(parts)}"


def _on_captions(files: FolderFiles, texts: Mapping[Path, str]) -> list[str]:
    """Return what is to be said of captions: files without text, and files that contradict the one that is taken."""
    remarks = []
    empty = [file.name for file, text in texts.items() if not text]
    if empty:
        remarks.append(f"{names_text(empty)}: no text in it.")
    contradicting = {
        file.name
        for some in files.images
        for file in some.captions
        if texts[file] and (taken := _taken(some, texts)) is not None and texts[file] != texts[taken]
    }
    if contradicting:
        remarks.append(f"{names_text(sorted(contradicting))}: says something else than the .txt, which is taken.")
    return remarks


def _notes(images: list[FolderImage]) -> list[str]:
    """Return each thing that was done, with the images it was done to."""
    done: dict[str, list[str]] = defaultdict(list)
    for image in images:
        if image.notes:
            done["; ".join(image.notes)].append(image.name)
    return [f"{names_text(some)}: {notes}." for notes, some in done.items()]
