"""What a training is given: what cannot be used is refused before any work starts."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.inputs import TrainingInputs, captions_from, one_caption_each
from comfyui_dci.nodes.host.training.trainer import train_concept
from training_runs import inputs, pictures, prepared, settings, train

from workbench.tiny import Tiny, tiny


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": []}, "0 reference images"),
        ({"images": pictures() * 70}, "210 reference images"),
        ({"class_noun": "cat " * 80}, "training prompt needs"),
        (
            {"regularization_images": pictures(), "regularization_captions": ["a cat"] * 2},
            "3 regularization images and 2 captions",
        ),
        (
            {"regularization_images": pictures()[:1], "regularization_captions": ["a cat " * 60]},
            "longer than 75 tokens",
        ),
        ({"captions": ["a", "b"]}, "3 reference images and 2 captions"),
        (
            {"captions": ["", "sunny " * 71, ""]},
            "The caption 'sunny .* has 71 tokens; of the 77 that the text encoder takes, 69 are left",
        ),
        ({"resolution": 100}, "multiple of 8"),
        ({"images": [torch.rand(4, 4, 3)], "resolution": 64}, "at least 8 × 8"),
        ({"images": [torch.full((16, 16, 3), float("nan"))], "resolution": 64}, "not finite"),
        ({"images": [*pictures()[:1], torch.full((16, 16, 3), 0.5)], "resolution": 64}, "image 2 is one even"),
    ],
)
def test_unusable_inputs_are_refused_before_work_starts(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        prepared(tiny("sd1"), TrainingInputs(**{"images": pictures(), "class_noun": "cat", **given}))


@pytest.mark.parametrize(
    ("part", "message"),
    [("clip", "There is no CLIP: the checkpoint"), ("vae", "There is no VAE: the checkpoint holds none")],
)
def test_a_checkpoint_without_clip_or_vae_is_told(part: str, message: str) -> None:
    base = tiny("sd1")
    parts: dict[str, Any] = {"clip": base.clip, "vae": base.vae, part: None}
    with pytest.raises(UserInputError, match=message), torch.inference_mode():
        train_concept(HostModel(base.model, parts["clip"], parts["vae"]), inputs(), settings())
    other = SimpleNamespace(first_stage_model=base.vae.first_stage_model, latent_channels=16)
    with pytest.raises(UserInputError, match="latents of 16 channels, the model takes 4"):
        HostModel(base.model, base.clip, other).check_vae()


def test_a_clip_of_another_family_is_refused() -> None:
    base, other = tiny("sd1"), tiny("sd2")
    with pytest.raises(UserInputError, match="needs the text encoders \\['clip_l'\\], this CLIP has \\['clip_h'\\]"):
        prepared(Tiny(base.model, other.clip, base.vae))


def test_captions_are_one_each_or_one_for_all() -> None:
    assert one_caption_each(None, 2, "cat") == ["photo of a cat"] * 2
    assert one_caption_each(["  a cat \n\n"], 2, "cat") == ["a cat"] * 2
    assert one_caption_each(["a\nb"], 2, "cat") == ["a", "b"]
    assert one_caption_each(["a", "b"], 2, "cat") == ["a", "b"]
    assert one_caption_each([""], 0, "cat") == []
    assert one_caption_each(["a cat"], 0, "cat") == []


def test_captions_of_references_are_one_each_or_one_for_all_or_none() -> None:
    assert (
        captions_from(None, 2)
        == captions_from([""], 2)
        == captions_from(["", " \n"], 2)
        == captions_from(["", ""], 5)
        == []
    )
    assert captions_from([" in the sun\n\n"], 2) == ["in the sun"] * 2
    assert captions_from(["in the sun\n\non grass\n"], 2) == ["in the sun", "on grass"]
    assert captions_from(["in the sun\non grass", ""], 2) == ["in the sun on grass", ""]
    assert captions_from(["on grass,\nin the sun"], 1) == ["on grass, in the sun"]
    assert captions_from(["a\nb"], 3) == ["a", "b"], "left to be refused with both counts"


def test_a_caption_that_names_the_subject_is_refused_with_what_to_write() -> None:
    with pytest.raises(UserInputError, match='names the subject.*write only what is around .*such as "on a table"'):
        train(tiny("sd1"), replace(inputs(), captions=["", "a photo of V* cat on a table", ""]))
