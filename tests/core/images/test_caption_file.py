"""Captions: byte-order marks never reach a tokenizer, and what is no text is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.images.caption_file import read_caption, without_marks


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_read_and_left_out(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "cat.txt"
    file.write_bytes(" a cät,\non grass \n".encode(encoding))
    assert read_caption(file) == "a cät,\non grass"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf \r\n", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\xef\xbb\xbf" * 2],
)
def test_a_file_that_holds_a_mark_or_white_space_holds_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cat.txt").write_bytes(content)
    assert read_caption(tmp_path / "cat.txt") == ""


def test_a_mark_in_the_middle_is_left_out() -> None:
    assert without_marks("\ufeffa cat, \ufeffon grass") == "a cat, on grass"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "a cat".encode("utf-16-le"), "a cät".encode("latin-1")])
def test_what_is_no_text_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cat.txt").write_bytes(content)
    with pytest.raises(UserInputError, match=r"The caption cat\.txt cannot be read .* Save it as UTF-8 text"):
        read_caption(tmp_path / "cat.txt")
