"""Folders of images: order, EXIF, masks, captions, and errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.images.folder import read_and_report, read_image, read_image_folder
from PIL import Image


def save(
    folder: Path, name: str, size: tuple[int, int] = (6, 4), color: object = (255, 0, 51), mode: str = "RGB"
) -> Path:
    Image.new(mode, size, color).save(folder / name)
    return folder / name


def test_images_come_in_order_of_names_with_caption_and_an_all_white_mask(tmp_path: Path) -> None:
    for name in ("b.png", "a.webp", "C.JPG"):
        save(tmp_path, name)
    (tmp_path / "b.txt").write_text(" a cät \n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    found = read_image_folder(tmp_path)
    assert [(entry.name, entry.caption) for entry in found] == [("C.JPG", ""), ("a.webp", ""), ("b.png", "a cät")]
    image = found[2].image
    assert image.shape == (4, 6, 3) and image.dtype == torch.float32
    assert image[0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert torch.equal(found[2].mask, torch.ones(4, 6))


def test_the_order_is_not_the_file_system_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [save(tmp_path, name) for name in ("b.png", "c.png", "a.png")]
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(files))
    assert [entry.name for entry in read_image_folder(tmp_path)] == ["a.png", "b.png", "c.png"]


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 4), (0, 0, 0))
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90° clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    image = read_image_folder(tmp_path)[0].image
    assert image.shape == (6, 4, 3) and image[0, 3].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["cat_mask.png", "cat-masklabel.png"])
def test_a_mask_file_belongs_to_its_image(tmp_path: Path, name: str) -> None:
    save(tmp_path, "cat.jpg")
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1, 2] = 255
    Image.fromarray(mask).save(tmp_path / name)
    (entry,) = read_image_folder(tmp_path)
    assert entry.mask.sum() == 1.0 and entry.mask[1, 2] == 1.0


def test_a_photograph_named_like_a_mask_is_an_image_where_there_is_none_it_could_belong_to(tmp_path: Path) -> None:
    for name in ("red_mask.png", "me.png", "me_mask.png"):
        save(tmp_path, name)
    assert [entry.name for entry in read_image_folder(tmp_path)] == ["me.png", "red_mask.png"]


def test_transparency_is_the_mask_where_there_is_no_other(tmp_path: Path) -> None:
    save(tmp_path, "cat.png", color=(255, 0, 51, 51), mode="RGBA")
    (entry,) = read_image_folder(tmp_path)
    assert entry.mask.unique().tolist() == pytest.approx([0.2]) and entry.image.shape == (4, 6, 3)


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 32768, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert read_image_folder(tmp_path)[0].image.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("content", [b"", b"this is no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    save(tmp_path, "good.png")
    (tmp_path / "holiday 7.png").write_bytes(content)
    with pytest.raises(UserInputError, match=r"The image holiday 7\.png cannot be read .*take it out of the folder"):
        read_image_folder(tmp_path)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserInputError, match=r"The image cut\.jpg cannot be read"):
        read_image_folder(tmp_path)


def test_a_mask_of_another_size_is_refused_with_both(tmp_path: Path) -> None:
    save(tmp_path, "cat.png")
    save(tmp_path, "cat_mask.png", (3, 3), 255, "L")
    with pytest.raises(UserInputError, match="cat_mask.png is 3 × 3 pixels, its image cat.png is 6 × 4"):
        read_image_folder(tmp_path)


def test_empty_and_missing_folders_and_unreadable_captions_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="holds no image"):
        read_image_folder(tmp_path)
    with pytest.raises(UserInputError, match="There is no folder 'away'"):
        read_image_folder(tmp_path / "away")
    save(tmp_path, "cat.png")
    (tmp_path / "cat.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserInputError, match="The caption cat.txt cannot be read"):
        read_image_folder(tmp_path)


def test_the_report_says_what_was_found_and_what_was_left_out(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.GIF", "c.tiff", "d.jfif"):
        save(tmp_path, name)
    save(tmp_path, "a_Mask.PNG", color=255, mode="L")
    (tmp_path / "b.TXT").write_text("on grass")
    (tmp_path / "notes.md").touch()
    (tmp_path / "._a.jpg").write_bytes(b"a Mac's")
    images, text = read_and_report(tmp_path)
    assert [(entry.name, entry.caption) for entry in images] == [
        ("a.jpg", ""),
        ("b.GIF", "on grass"),
        ("c.tiff", ""),
        ("d.jfif", ""),
    ]
    assert text == "6 files: 4 images, 1 mask, 1 caption; not read: notes.md"


def test_the_report_of_one_image_and_nothing_else_is_short(tmp_path: Path) -> None:
    save(tmp_path, "a.png")
    assert read_and_report(tmp_path)[1] == "1 file: 1 image"


def test_an_avif_is_read_where_pillow_opens_it(tmp_path: Path) -> None:
    Image.init()
    if "AVIF" not in Image.SAVE:
        (tmp_path / "a.avif").touch()
        save(tmp_path, "b.png")
        assert "a.avif: not opened here" in read_and_report(tmp_path)[1]
    else:
        save(tmp_path, "a.avif")
        assert [entry.name for entry in read_image_folder(tmp_path)] == ["a.avif"]


def test_a_caption_that_holds_nothing_is_none_and_the_other_is_taken(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path, name)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfon grass")
    (tmp_path / "c.txt").write_text(" \n")
    (tmp_path / "c.caption").write_text("indoors")
    images, text = read_and_report(tmp_path)
    assert [entry.caption for entry in images] == ["", "on grass", "indoors"]
    assert text == "5 files: 3 images, 2 captions; not read: a.txt, c.txt\na.txt, c.txt: no text in it."


def test_of_two_captions_the_text_file_is_taken_and_a_contradiction_is_told(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path, name)
    for name, text in (("a.txt", "outdoors"), ("a.caption", "indoors"), ("b.txt", "same"), ("b.caption", "same")):
        (tmp_path / name).write_text(text)
    images, text = read_and_report(tmp_path)
    assert [entry.caption for entry in images] == ["outdoors", "same"]
    assert text.splitlines() == [
        "4 files: 2 images, 2 captions; not read: a.caption, b.caption",
        "a.caption: says something else than the .txt, which is taken.",
    ]


def test_what_was_done_to_images_is_told_by_kind(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path, name, color=(255, 0, 51, 0), mode="RGBA")
    save(tmp_path, "c_mask.png", color=255, mode="L")
    images, text = read_and_report(tmp_path)
    assert [entry.mask.max().item() for entry in images] == [0.0, 0.0, 1.0]
    assert all((entry.image == 1.0).all() for entry in images)
    assert text.splitlines()[1:] == [
        "a.png, b.png: laid on white where transparent; the transparency is the mask.",
        "c.png: laid on white where transparent; the mask is the mask file.",
    ]


def test_a_folder_of_photographs_that_are_not_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").touch()
    with pytest.raises(UserInputError) as refusal:
        read_image_folder(tmp_path)
    assert str(refusal.value).splitlines() == [
        f"The folder {tmp_path.name!r} holds no image. Put some in.",
        "not read: IMG_1.HEIC",
        "IMG_1.HEIC: not opened here. Save as PNG or JPEG.",
    ]


def test_a_single_image_has_the_caption_in_its_text_file(tmp_path: Path) -> None:
    save(tmp_path, "a.png")
    assert read_image(tmp_path / "a.png").caption == ""
    (tmp_path / "a.txt").write_text("on grass\n", encoding="utf-8-sig")
    assert read_image(tmp_path / "a.png").caption == "on grass"
