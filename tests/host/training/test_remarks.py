"""What is said of the images and texts of a run before it starts, and how texts become captions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.training.description import dataset_hash
from comfyui_dci.nodes.host.training.inputs import (
    Crop,
    TrainingInputs,
    captions_from,
    one_caption_each,
    unused_captions,
)
from training_runs import inputs, pictures, prepared

from workbench.tiny import tiny


def middle() -> torch.Tensor:
    """Return the mask of a subject in the middle: the inner half of each edge of 64 × 72 pixels."""
    mask = torch.zeros(64, 72)
    mask[16:48, 18:54] = 1.0
    return mask


def with_alpha(image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    return torch.cat([image, alpha[..., None]], dim=-1)


def test_what_masks_leave_is_told_and_inverted_ones_with_the_cure() -> None:
    """The square cut out of 64 × 72 loses four columns on each side, none of them of the subject: 32 · 36 / 64²."""
    assert inputs().remarks(64) == []
    assert replace(inputs(), masks=[middle()] * 3).remarks(64) == ["Masks leave 28 % of the images."]
    share, warning = replace(inputs(), masks=[1.0 - middle()] * 3).remarks(64)
    assert share == "Masks leave 72 % of the images."
    assert "the background would be learned" in warning and "put InvertMask between" in warning


def test_buckets_keep_what_the_square_cuts_off() -> None:
    """The bucket of 36 × 72 is 384 × 640, so it keeps 60 columns, 12 of them white; the square keeps 36 and none."""
    mask = (torch.arange(72) < 18).float().expand(36, 72)
    wide = replace(inputs(), images=[image[:36] for image in pictures()], masks=[mask] * 3)
    assert wide.remarks(512)[0] == "Masks leave less than 1 % of the images."
    assert "set crop to buckets" in wide.remarks(512)[1]
    assert replace(wide, crop=Crop.BUCKETS, resolution=512).remarks(512) == ["Masks leave 20 % of the images."]


def test_transparent_images_are_told_and_those_that_hide_nothing_are_not() -> None:
    images = [with_alpha(image, torch.ones(64, 72)) for image in pictures()]
    assert TrainingInputs(images, "cat").remarks(64) == []
    images[0] = with_alpha(images[0][..., :3], middle())
    (told,) = TrainingInputs(images, "cat", [images[0]], ["a cat"]).remarks(64)
    assert told == "Images laid on white where they are transparent: 2. Only masks leave that part out."


def test_colours_under_transparency_are_not_trained_on() -> None:
    base, plain = tiny("sd1"), pictures()
    junk = [image * 0.0 + torch.tensor([0.0, 1.0, 0.0]) for image in plain]
    hidden = middle() < 0.5
    white = [torch.where(hidden[..., None], torch.ones(3), image) for image in plain]
    alike = [
        replace(
            inputs(), images=[with_alpha(torch.where(hidden[..., None], under, image), middle()) for image in plain]
        )
        for under in (junk[0], torch.zeros(3))
    ]
    expected = prepared(base, replace(inputs(), images=white)).references.latents
    for some in alike:
        assert torch.equal(prepared(base, some).references.latents, expected)
        assert dataset_hash(some) == dataset_hash(replace(inputs(), images=white))


def test_an_image_that_is_white_without_its_transparency_is_one_colour() -> None:
    with pytest.raises(UserInputError, match="Reference image 2 is one even colour"):
        replace(inputs(), images=[pictures()[0], with_alpha(torch.ones(64, 72, 3), middle()), pictures()[1]])


@pytest.mark.parametrize(
    ("text", "images", "captions"),
    [
        ("a\n\nc", 3, ["a", "", "c"]),
        ("a\n\nc\n", 3, ["a", "", "c"]),
        ("\nb\nc", 3, ["", "b", "c"]),
        ("\n\nc", 3, ["", "", "c"]),
        ("a\nb\n\n", 3, ["a", "b", ""]),
        ("a\nb\n", 3, ["a", "b", ""]),
        ("a\nb\n", 4, ["a", "b"]),
        ("a\n \nc\r\n", 3, ["a", "", "c"]),
        ("a\nb\nc\n", 3, ["a", "b", "c"]),
        ("a\n\nb\n\nc", 3, ["a", "b", "c"]),
        ("a\n\nb", 2, ["a", "b"]),
        ("a\n", 3, ["a"] * 3),
        ("a\n\n\n", 3, ["a"] * 3),
        ("a", 3, ["a"] * 3),
        ("\na\n", 3, ["a"] * 3),
        ("a\n\nb", 4, ["a", "b"]),
        ("\n\n\n", 3, []),
        ("", 3, []),
    ],
)
def test_an_empty_line_is_an_image_without_where_there_are_as_many_lines_as_images(
    text: str, images: int, captions: list[str]
) -> None:
    assert captions_from([text], images) == captions


def test_a_list_of_texts_is_one_for_each_image_and_marks_of_byte_order_are_left_out() -> None:
    assert captions_from(["\ufeffa\nb", "", "\ufeff"], 3) == ["a b", "", ""]
    assert captions_from(["\ufeff"], 3) == captions_from(None, 3) == []
    assert captions_from(["\ufeffa\n\nc"], 3) == ["a", "", "c"]


def test_an_empty_line_among_captions_of_class_images_is_the_usual_one() -> None:
    assert one_caption_each(["a cat\n\ncats"], 3, "cat") == ["a cat", "photo of a cat", "cats"]


@pytest.mark.parametrize("texts", [None, [], [""], ["\n"]])
def test_no_class_images_and_no_captions_are_nothing(texts: list[str] | None) -> None:
    assert one_caption_each(texts, 0, "cat") == [] == unused_captions(texts, 0)


def test_captions_without_class_images_are_not_used_and_this_is_told() -> None:
    """So ComfyUI's bypass of DCI Class Images, which hands its class noun on as captions, stops nothing."""
    assert one_caption_each(["cat"], 0, "cat") == []
    assert unused_captions(["cat"], 0) == [
        "The regularization captions ('cat') are not used, as there are no regularization images."
    ]
    assert unused_captions(["cat"], 2) == []
