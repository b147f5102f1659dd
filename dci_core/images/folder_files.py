"""Which files of a folder are images, masks and captions: told by their names, in any case."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import UserInputError

MASK_ENDINGS = ("_mask", "-masklabel")
CAPTION_ENDINGS = (".txt", ".caption")
"""The first that holds a text is taken."""
NO_PHOTOGRAPHS = frozenset(
    {
        *("EPS", "PDF", "WMF"),  # documents and drawings
        *("FLI", "MPEG"),  # films
        *("CUR", "ICNS", "ICO"),  # icons
        *("BUFR", "FITS", "GRIB", "HDF5", "IPTC"),  # data
        "PSD",  # layered works
    }
)
"""Formats of Pillow that are not read."""
WITHIN_JPEG = frozenset({"MPO"})
"""Formats that Pillow opens through another one."""
UNOPENED_ENDINGS = (
    *(".heic", ".heif", ".hif", ".avif", ".jxl", ".psd", ".xcf"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
)
"""Photographs and layered works that Pillow opens with a plug-in, in a newer release, or not at all."""
MOST_NAMES = 8


@dataclass(frozen=True)
class ImageFiles:
    """The files of one image.

    Args:
        image: its file.
        mask: that of its mask, or None.
        captions: those that could hold its caption, in the order of ``CAPTION_ENDINGS``.
    """

    image: Path
    mask: Path | None
    captions: tuple[Path, ...]


@dataclass(frozen=True)
class FolderFiles:
    """The files of a folder; folders in it, and names that begin with a dot, are passed over.

    Args:
        images: with what belongs to them, in order of names.
        left_out: files that belong to no image, in order of names.
    """

    images: tuple[ImageFiles, ...]
    left_out: tuple[Path, ...]

    def remarks(self) -> list[str]:
        """Return what is to be said of the names: photographs not opened, masks without image, images that share files."""
        remarks = []
        unopened = [file.name for file in self.left_out if file.suffix.lower() in UNOPENED_ENDINGS]
        if unopened:
            remarks.append(f"{names_text(unopened)}: not opened here. Save as PNG or JPEG.")
        lonely = [files.image.name for files in self.images if mask_subject(files.image) is not None]
        if lonely:
            remarks.append(f"{names_text(lonely)}: named like a mask, but read as an image, as it belongs to none.")
        uses = Counter(file for files in self.images for file in (files.mask, *files.captions) if file is not None)
        shared = [file.name for file, count in uses.items() if count > 1]
        if shared:
            remarks.append(f"{names_text(shared)}: shared by the images of that name.")
        return remarks


def readable_formats() -> list[str]:
    """Return the formats that Pillow opens as photographs, plug-ins' included, in the order in which it tries them."""
    Image.init()
    return [name for name in Image.ID if name not in NO_PHOTOGRAPHS]


def image_endings() -> frozenset[str]:
    """Return the endings of those formats, in small letters."""
    formats = {*readable_formats(), *WITHIN_JPEG}
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in formats)


def files_of(folder: Path) -> FolderFiles:
    """Sort the files of a folder.

    ``cat_mask.png`` (or ``cat-masklabel.png``) is the mask of ``cat.jpg``, and ``cat.txt`` (or ``cat.caption``) its caption;
    the name in the same case comes before one in another. A mask without a ``cat`` is an image like any other.

    Raises:
        UserInputError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserInputError(f"There is no folder {folder.name!r}. Choose one of the list.")
    every = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and not file.is_dir())
    files = [file for file in every if file.is_file()]  # the others are links to nothing
    endings = image_endings()
    pictures = [file for file in files if file.suffix.lower() in endings]
    unopened = [file for file in files if file.suffix.lower() in UNOPENED_ENDINGS and file not in pictures]
    known = {_key(file.stem) for file in (*pictures, *unopened)}
    subjects = {file: _subject_among(known, file) for file in pictures}
    masks = _by_key((subject, file) for file, subject in subjects.items() if subject is not None)
    captions = {
        ending: _by_key((file.stem, file) for file in files if file.suffix.lower() == ending)
        for ending in CAPTION_ENDINGS
    }
    images = tuple(
        ImageFiles(
            file,
            _belonging(file.stem, masks),
            tuple(found for some in captions.values() if (found := _belonging(file.stem, some)) is not None),
        )
        for file, subject in subjects.items()
        if subject is None
    )
    used = {file for some in images for file in (some.image, some.mask, *some.captions)}
    return FolderFiles(images, tuple(file for file in every if file not in used))


def files_that_count(folder: Path) -> list[Path]:
    """Return the files that decide what is read of a folder, in order of names.

    Raises:
        UserInputError: there is no such folder.
    """
    files = files_of(folder)
    used = {file for some in files.images for file in (some.image, some.mask, *some.captions) if file is not None}
    endings = image_endings() | set(UNOPENED_ENDINGS)
    return sorted(used | {file for file in files.left_out if file.suffix.lower() in endings and file.is_file()})


def mask_subject(file: Path) -> str | None:
    """Return the stem of the image that a file would be the mask of, by its name; None for other names."""
    stem = file.stem
    return next((stem[: -len(ending)] for ending in MASK_ENDINGS if stem[-len(ending) :].lower() == ending), None)


def names_text(names: Sequence[str]) -> str:
    """Return names as a text, many of them as the first few and how many more."""
    shown = names if len(names) <= MOST_NAMES else names[: MOST_NAMES - 1]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _subject_among(known: set[str], file: Path) -> str | None:
    subject = mask_subject(file)
    return None if subject is None or _key(subject) not in known else subject


def _by_key(named: Iterable[tuple[str, Path]]) -> dict[str, list[tuple[str, Path]]]:
    found: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for name, file in named:
        found[_key(name)].append((name, file))
    return found


def _belonging(stem: str, by_key: dict[str, list[tuple[str, Path]]]) -> Path | None:
    """Return the last file of the same name, or else the last whose name is the same in another case."""
    found = by_key.get(_key(stem), [])
    exact = [file for name, file in found if name == stem]
    return exact[-1] if exact else found[-1][1] if found else None


def _key(stem: str) -> str:
    """Return what names share that differ only in case, or in how an accent is written."""
    return unicodedata.normalize("NFC", stem).casefold()
