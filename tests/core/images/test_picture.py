"""Image files as values of sRGB: colour profiles, transparency, frames, and files of every format of Pillow."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.images.picture import FIRST_FRAME, LAID_ON_WHITE, PROFILE_UNREAD, read_mask, read_picture
from PIL import Image, ImageCms

DISPLAY_P3 = {
    b"rXYZ": (0.51512, 0.2412, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.1571, 0.06657, 0.78407),
}
"""Its colorants relative to D50; white and curve are those of sRGB."""


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_with(colorants: dict[bytes, tuple[float, float, float]], space: bytes = b"RGB ") -> bytes:
    """Return the profile of sRGB with other colorants, named as before, so that its name says nothing."""
    content = bytearray(srgb_profile())
    content[16:20] = space
    (count,) = struct.unpack(">I", content[128:132])
    for index in range(count):
        tag, offset, _ = struct.unpack(">4sII", content[132 + 12 * index : 144 + 12 * index])
        if tag in colorants:
            content[offset + 8 : offset + 20] = struct.pack(">3i", *(round(65536 * value) for value in colorants[tag]))
    return bytes(content)


def grey_profile(gamma: float) -> bytes:
    """Return a profile of version 2 for grey values with a gamma."""
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(256 * gamma)) + b"\0\0"
    white = b"XYZ " + struct.pack(">I3i", 0, *(round(65536 * value) for value in (0.9642, 1.0, 0.8249)))
    table = struct.pack(">I", 2)
    offset = 128 + 4 + 2 * 12
    for tag, data in ((b"wtpt", white), (b"kTRC", curve)):
        table += struct.pack(">4sII", tag, offset, len(data))
        offset += len(data)
    header = bytearray(128)
    header[0:4] = struct.pack(">I", offset)
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = b"mntrGRAYXYZ "
    header[36:40] = b"acsp"
    header[68:80] = white[8:]
    return bytes(header) + table + white + curve


def save(folder: Path, name: str, colour: object, mode: str = "RGB", **options: object) -> Path:
    Image.new(mode, (8, 8), colour).save(folder / name, **options)
    return folder / name


def levels(image: torch.Tensor) -> list[int]:
    """Return the first pixel in levels of 256."""
    return (image[0, 0] * 255.0).round().int().tolist()


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
def test_display_p3_becomes_srgb(ending: str, tmp_path: Path) -> None:
    options = {"lossless": True} if ending == "webp" else {"quality": 100} if ending == "jpg" else {}
    file = save(tmp_path, f"a.{ending}", (231, 60, 40), icc_profile=profile_with(DISPLAY_P3), **options)
    picture = read_picture(file)
    assert levels(picture.image) == pytest.approx([251, 31, 13], abs=3 if ending == "jpg" else 1)
    assert len(picture.notes) == 1 and picture.notes[0].startswith("colours converted from ")


def test_a_profile_that_says_srgb_changes_no_bit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=srgb_profile())
    Image.fromarray(noise).save(tmp_path / "b.png")
    tagged, plain = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "b.png")
    assert torch.equal(tagged.image, plain.image) and tagged.notes == plain.notes == ()
    assert torch.equal(plain.image, torch.from_numpy(noise.astype(np.float32) / 255.0))


@pytest.mark.parametrize(
    ("mode", "colour", "profile"),
    [
        ("RGB", (231, 60, 40), b"junk"),
        ("RGB", (231, 60, 40), srgb_profile()[:200]),
        ("RGB", (9, 8, 7), grey_profile(1.8)),
    ],
)
def test_a_profile_that_cannot_be_used_is_told(mode: str, colour: object, profile: bytes, tmp_path: Path) -> None:
    picture = read_picture(save(tmp_path, "a.png", colour, mode, icc_profile=profile))
    assert picture.notes == (PROFILE_UNREAD,) and levels(picture.image) == list(colour)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_values_follow_their_profile(mode: str, tmp_path: Path) -> None:
    """128 at gamma 1.0 is 0.5019 of the light, which sRGB writes as 188."""
    colour = {"L": 128, "LA": (128, 255), "1": 1}[mode]
    picture = read_picture(save(tmp_path, "a.png", colour, mode, icc_profile=grey_profile(1.0)))
    assert levels(picture.image) == pytest.approx([255 if mode == "1" else 188] * 3, abs=1)


def test_a_grey_picture_with_a_profile_for_colours_follows_it(tmp_path: Path) -> None:
    """Display P3 has the white and the curve of sRGB, so grey values stay."""
    picture = read_picture(save(tmp_path, "a.png", 128, "L", icc_profile=profile_with(DISPLAY_P3)))
    assert levels(picture.image) == pytest.approx([128] * 3, abs=1)


def test_sixteen_bits_follow_a_grey_profile(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 32896, dtype=np.uint16)).save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    assert levels(read_picture(tmp_path / "a.png").image) == pytest.approx([188] * 3, abs=1)


def test_cmyk_is_read_as_pillow_does_without_a_profile_and_told_where_its_profile_is_for_others(tmp_path: Path) -> None:
    colour = (0, 200, 180, 20)
    expected = list(Image.new("CMYK", (1, 1), colour).convert("RGB").getpixel((0, 0)))  # type: ignore[arg-type]
    plain = read_picture(save(tmp_path, "a.tif", colour, "CMYK"))
    other = read_picture(save(tmp_path, "b.tif", colour, "CMYK", icc_profile=srgb_profile()))
    assert levels(plain.image) == levels(other.image) == expected
    assert plain.notes == () and other.notes == (PROFILE_UNREAD,)


def test_a_profile_leaves_transparency_alone(tmp_path: Path) -> None:
    picture = read_picture(save(tmp_path, "a.png", (231, 60, 40, 0), "RGBA", icc_profile=profile_with(DISPLAY_P3)))
    assert levels(picture.image) == [255, 255, 255] and picture.alpha is not None and not picture.alpha.any()


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_what_is_transparent_is_white_not_what_was_left_under_it(ending: str, tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 4), dtype=np.uint8)
    pixels[..., :3] = (0, 255, 0)  # junk
    pixels[1:3, 2:4] = (200, 40, 10, 255)
    pixels[0, 0] = (200, 40, 10, 51)
    options = {"lossless": True, "exact": True} if ending == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}", **options)
    picture = read_picture(tmp_path / f"a.{ending}")
    assert (picture.image[3] == 1.0).all()
    assert levels(picture.image[1:, 2:]) == [200, 40, 10]
    assert picture.image[0, 0].tolist() == pytest.approx([0.2 * c / 255 + 0.8 for c in (200, 40, 10)], abs=1e-6)
    assert picture.alpha is not None and picture.alpha[0, 0].item() == pytest.approx(0.2)
    assert picture.notes == (LAID_ON_WHITE,)


def test_an_alpha_channel_that_hides_nothing_changes_no_bit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    noise[..., 3] = 255
    Image.fromarray(noise).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert torch.equal(picture.image, torch.from_numpy(noise[..., :3].astype(np.float32) / 255.0))
    assert picture.notes == () and picture.alpha is not None and (picture.alpha == 1.0).all()


def test_a_transparent_entry_of_a_palette_is_white(tmp_path: Path) -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([10, 20, 30, 200, 40, 10])
    picture.putpixel((0, 0), 1)
    picture.save(tmp_path / "a.gif", transparency=0)
    read = read_picture(tmp_path / "a.gif")
    assert levels(read.image) == [200, 40, 10] and (read.image[1:] == 1.0).all()


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_of_several_frames_the_first_is_read_and_this_is_told(ending: str, tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if ending == "webp" else {}
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second], **options)
    picture = read_picture(tmp_path / f"a.{ending}")
    assert levels(picture.image) == [255, 0, 0] and picture.notes == (FIRST_FRAME,)


def test_the_preview_in_a_photograph_of_a_phone_is_no_frame(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (255, 0, 0)).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]
    )
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.format == "MPO" and opened.n_frames == 2
    assert read_picture(tmp_path / "a.jpg").notes == ()


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_grey_keeps_its_brightness_in_either_order_of_bytes(order: str, tmp_path: Path) -> None:
    content = np.full((9, 9), 32768, dtype=f"{order}u2").tobytes()
    Image.frombytes("I;16B" if order == ">" else "I;16", (9, 9), content).save(tmp_path / "a.tif")
    assert read_picture(tmp_path / "a.tif").image.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((9, 9), 0.5, dtype=np.float32), "fractions, of which none is known to be white"),
        (np.full((9, 9), 70000, dtype=np.int32), "more than 16 bits"),
    ],
)
def test_values_without_a_known_white_are_refused(values: np.ndarray, message: str, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    for read in (read_picture, read_mask):
        with pytest.raises(UserInputError, match=rf"The image a\.tif cannot be read \(its values .*{message}"):
            read(tmp_path / "a.tif")


def test_lab_is_read_as_the_colours_it_means(tmp_path: Path) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    written = ImageCms.profileToProfile(Image.new("RGB", (8, 8), (200, 40, 10)), srgb, lab, outputMode="LAB")
    assert written is not None
    written.info.pop("icc_profile", None)
    written.save(tmp_path / "a.tif")
    assert levels(read_picture(tmp_path / "a.tif").image) == pytest.approx([200, 40, 10], abs=6)


def test_a_drawing_under_a_photograph_s_name_is_not_handed_to_another_program(tmp_path: Path) -> None:
    """Pillow gives PostScript to Ghostscript."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(UserInputError, match=r"The image a\.png cannot be read"):
        read_picture(tmp_path / "a.png")


def test_a_mask_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = save(tmp_path, "a_mask.png", 128, "L", icc_profile=grey_profile(1.0))
    assert read_mask(file).unique().tolist() == pytest.approx([128 / 255])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_of_every_format_are_refused_and_nothing_else_is_raised(tmp_path: Path) -> None:
    Image.init()
    chance = np.random.default_rng(0)
    noise = Image.fromarray(chance.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    for ending in ("png", "jpg", "webp", "gif", "tif", "bmp", "tga", "jp2", "ppm", "pcx", "sgi", "qoi", "dds", "avif"):
        if f".{ending}" not in Image.registered_extensions():
            continue
        whole = BytesIO()
        form = Image.registered_extensions()[f".{ending}"]
        if form not in Image.SAVE:
            continue
        noise.save(whole, format=form)
        for attempt in range(6):
            content = bytearray(whole.getvalue())
            content[chance.integers(min(len(content), 100))] = chance.integers(256)
            cut = chance.integers(len(content)) if attempt % 2 else len(content)
            (tmp_path / f"a.{ending}").write_bytes(content[:cut])
            try:
                read_picture(tmp_path / f"a.{ending}")
            except UserInputError as error:
                assert f"The image a.{ending} cannot be read" in str(error)
