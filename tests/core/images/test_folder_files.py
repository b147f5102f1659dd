"""Which files of a folder are images, masks and captions."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_dci.dci_core.images.folder_files import (
    MOST_NAMES,
    files_of,
    files_that_count,
    image_endings,
    mask_subject,
    names_text,
)
from PIL import Image


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def named(folder: Path) -> list[tuple[str, str | None, list[str]]]:
    """Return image, mask and captions of each image of a folder by their names."""
    return [
        (some.image.name, some.mask and some.mask.name, [file.name for file in some.captions])
        for some in files_of(folder).images
    ]


def left_out(folder: Path) -> list[str]:
    return [file.name for file in files_of(folder).left_out]


@pytest.mark.parametrize(
    "ending",
    ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "gif", "tif", "tiff", "mpo", "tga", "jp2", "ppm"],
)
@pytest.mark.parametrize("written", [str.lower, str.upper, str.title])
def test_whatever_pillow_opens_is_an_image_in_any_case(ending: str, written: object, tmp_path: Path) -> None:
    assert callable(written)
    touch(tmp_path, f"a.{written(ending)}")
    assert named(tmp_path) == [(f"a.{written(ending)}", None, [])]


def test_pillow_s_own_table_decides() -> None:
    Image.init()
    assert (".avif" in image_endings()) == (".avif" in Image.registered_extensions())
    assert {".pdf", ".eps", ".ps", ".psd", ".mpg", ".h5", ".wmf", ".ico", ".txt", ""}.isdisjoint(image_endings())


def test_a_format_that_a_plug_in_adds_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.heic")
    assert named(tmp_path) == [] and left_out(tmp_path) == ["a.heic"]
    monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
    monkeypatch.setattr(Image, "EXTENSION", {**Image.EXTENSION, ".heic": "HEIF"})
    assert named(tmp_path) == [("a.heic", None, [])]
    assert files_of(tmp_path).remarks() == []


def test_names_that_begin_with_a_dot_and_folders_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "._a.jpg", ".DS_Store", ".hidden.png", "._a.txt")
    (tmp_path / "folder.png").mkdir()
    assert named(tmp_path) == [("a.jpg", None, [])] and left_out(tmp_path) == []


@pytest.mark.parametrize(
    "mask", ["cat_mask.png", "cat_Mask.PNG", "CAT_MASK.png", "cat-masklabel.png", "Cat-MaskLabel.gif"]
)
@pytest.mark.parametrize("caption", ["cat.txt", "cat.TXT", "Cat.Txt", "cat.caption", "cat.Caption"])
def test_masks_and_captions_belong_to_their_image_in_any_case(mask: str, caption: str, tmp_path: Path) -> None:
    touch(tmp_path, "cat.jpg", mask, caption)
    assert named(tmp_path) == [("cat.jpg", mask, [caption])] and left_out(tmp_path) == []


def test_the_same_case_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, "Cat.jpg", "cat.jpg", "Cat_mask.png", "cat_mask.png", "CAT_mask.png", "Cat.txt", "cat.txt")
    assert named(tmp_path) == [("Cat.jpg", "Cat_mask.png", ["Cat.txt"]), ("cat.jpg", "cat_mask.png", ["cat.txt"])]
    assert left_out(tmp_path) == ["CAT_mask.png"]


def test_an_accent_may_be_written_in_two_ways(tmp_path: Path) -> None:
    touch(tmp_path, "cafe\u0301.jpg", "caf\u00e9.txt")
    assert named(tmp_path) == [("cafe\u0301.jpg", None, ["caf\u00e9.txt"])]


def test_two_texts_come_in_the_order_in_which_they_are_asked(tmp_path: Path) -> None:
    touch(tmp_path, "cat.caption", "cat.jpg", "cat.txt")
    assert named(tmp_path) == [("cat.jpg", None, ["cat.txt", "cat.caption"])]


def test_what_belongs_to_no_image_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.txt", "notes.md", "no_ending", "film.mpg", "work.psd", "a_mask_mask.png", "a_mask.png")
    assert named(tmp_path) == [("a.jpg", "a_mask.png", [])]
    assert left_out(tmp_path) == ["a_mask_mask.png", "b.txt", "film.mpg", "no_ending", "notes.md", "work.psd"]


def test_a_link_to_nothing_is_left_out_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for name in ("b.png", "a.txt"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    assert named(tmp_path) == [("a.jpg", None, [])] and left_out(tmp_path) == ["a.txt", "b.png"]
    assert [file.name for file in files_that_count(tmp_path)] == ["a.jpg"]


def test_a_photograph_that_is_not_opened_is_told_with_a_cure_and_keeps_its_mask(tmp_path: Path) -> None:
    touch(tmp_path, "IMG_1.HEIC", "IMG_1_mask.png", "IMG_1.txt", "b.jpg")
    files = files_of(tmp_path)
    assert [some.image.name for some in files.images] == ["b.jpg"], "the mask of a photograph is no photograph"
    assert files.remarks() == ["IMG_1.HEIC: not opened here. Save as PNG or JPEG."]


def test_a_mask_without_an_image_is_one_and_this_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "me.png", "red_mask.png")
    assert [some.image.name for some in files_of(tmp_path).images] == ["me.png", "red_mask.png"]
    assert files_of(tmp_path).remarks() == [
        "red_mask.png: named like a mask, but read as an image, as it belongs to none."
    ]


def test_images_of_one_name_share_and_this_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "cat.jpg", "cat.png", "cat.txt", "cat_mask.png")
    assert named(tmp_path) == [("cat.jpg", "cat_mask.png", ["cat.txt"]), ("cat.png", "cat_mask.png", ["cat.txt"])]
    assert files_of(tmp_path).remarks() == ["cat_mask.png, cat.txt: shared by the images of that name."]


def test_only_what_decides_on_images_counts(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a_mask.png", "a.txt", "b.txt", "notes.md", "c.heic", "._a.jpg")
    assert [file.name for file in files_that_count(tmp_path)] == ["a.jpg", "a.txt", "a_mask.png", "c.heic"]


@pytest.mark.parametrize(
    ("name", "subject"),
    [("cat_mask.png", "cat"), ("Cat_MASK.PNG", "Cat"), ("a-MaskLabel.png", "a"), ("mask.png", None), ("cat.png", None)],
)
def test_the_subject_of_a_mask_by_its_name(name: str, subject: str | None) -> None:
    assert mask_subject(Path(name)) == subject


def test_many_names_are_the_first_few_and_a_number() -> None:
    names = [f"{number}.md" for number in range(20)]
    assert names_text(names[:MOST_NAMES]) == ", ".join(names[:MOST_NAMES])
    assert names_text(names) == ", ".join(names[: MOST_NAMES - 1]) + " and 13 more"
