"""Captions beside images: text files in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from ..errors import UserInputError

BYTE_ORDER_MARK = "\ufeff"
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_caption(file: Path) -> str:
    """Return the text of a caption file without byte-order marks and white space around it; "" holds nothing.

    Raises:
        UserInputError: the file cannot be read as text; it is named.
    """
    try:
        content = file.read_bytes()
        encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
        text = without_marks(content.decode(encoding)).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserInputError(f"The caption {file.name} cannot be read ({error}). Save it as UTF-8 text.") from error
    if "\0" in text:
        raise UserInputError(f"The caption {file.name} cannot be read (it holds zeros). Save it as UTF-8 text.")
    return text


def without_marks(text: str) -> str:
    """Return a text without byte-order marks, which no word needs and which a tokenizer takes for letters."""
    return text.replace(BYTE_ORDER_MARK, "")
