"""Masks, buckets and folders on the host's models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.run import run_training
from comfyui_dci.nodes.host.input_folder import find_input_folder, fingerprint, list_input_folders
from comfyui_dci.nodes.host.training.inputs import Crop, TrainingInputs, masks_from, one_caption_each
from PIL import Image
from training_runs import inputs, outside_inference, pictures, prepared, train

from workbench.tiny import tiny

pytestmark = pytest.mark.sweep


def mixed_sizes() -> TrainingInputs:
    wide, tall, square = pictures()
    images = [wide[:32], tall[:, :32], square]
    return TrainingInputs(images, "cat", pictures(2, seed=9), ["a cat", "cats"], 192, crop=Crop.BUCKETS)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_images_of_mixed_sizes_train_in_their_buckets(family: str) -> None:
    base = tiny(family)
    training = prepared(base, mixed_sizes(), batch_size=3)
    shapes = [tuple(latents.shape[-2:]) for latents in training.references.latents]
    assert shapes == [(16, 32), (32, 16), (24, 24)]
    losses = outside_inference(lambda: run_training(training, lambda step, loss: None))
    assert torch.isfinite(torch.tensor(losses)).all()


def test_sdxl_is_told_the_size_of_each_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("sdxl")
    training = prepared(base, mixed_sizes(), batch_size=3)
    told: list[tuple[int, int]] = []
    encode_adm = base.model.model.encode_adm

    def watch(**given: Any) -> Any:
        told.append((given["height"], given["width"]))
        return encode_adm(**given)

    monkeypatch.setattr(base.model.model, "encode_adm", watch)
    outside_inference(training.step)
    assert sorted(set(told)) == [(128, 256), (192, 192), (256, 128)]


def test_what_a_mask_hides_is_not_learned() -> None:
    """Two sets of images that differ only where their masks are black give the same training, but for the VAE's view."""
    base = tiny("sd1")
    mask = torch.zeros(64, 72)
    mask[16:48, 20:52] = 1.0
    masked = replace(inputs(), masks=[mask] * 3)
    with_mask, without = prepared(base, masked), prepared(base)
    for training in (with_mask, without):
        training.model = replace(
            training.model, sigmas=torch.full((1,), 1e4)
        )  # noise alone is seen, so that hidden latents cannot matter by sight

    def gradient(training: Any, spoiled: bool) -> torch.Tensor:
        latents = training.references.latents
        hidden = training.references.masks[0][0, 0] == 0 if training.references.masks else torch.ones(8, 8).bool()
        kept = latents.clone()
        if spoiled:
            latents[..., hidden] += 100.0 if training is with_mask else 1.0
        training.model = replace(training.model, prediction=training.model.prediction.V)  # its target is −x₀ here
        state = training.generator.get_state()
        loss = outside_inference(lambda: training.draw_loss())
        training.generator.set_state(state)
        training.decks["references"].cards = []
        latents.copy_(kept)
        return loss.detach()

    with torch.inference_mode(False):
        assert with_mask.references.masks is not None and with_mask.references.masks[0].shape == (2, 1, 8, 8)
        assert torch.allclose(gradient(with_mask, False), gradient(with_mask, True), rtol=0.02)
        assert not torch.allclose(gradient(without, False), gradient(without, True), rtol=0.02)


def test_a_mirrored_image_has_a_mirrored_mask() -> None:
    mask = torch.zeros(64, 72)
    mask[:, :36] = 1.0
    training = prepared(tiny("sd1"), replace(inputs(), masks=[mask] * 3))
    assert training.references.masks is not None
    plain, mirrored = training.references.masks[0]
    assert torch.equal(plain.flip(-1), mirrored) and not torch.equal(plain, mirrored)


def test_masks_and_buckets_are_told_in_the_concept() -> None:
    concept, _ = train(tiny("sd1"), replace(mixed_sizes(), masks=[i[..., 0] * 0 + 0.5 for i in mixed_sizes().images]))
    assert concept.info.settings["masks"] == 3 and concept.info.settings["crop"] == "buckets"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": [torch.ones(64, 72)]}, "3 reference images and 1 masks"),
        ({"masks": [torch.ones(64, 64)] * 3}, r"Mask 1 is \(64, 64\), its image is \(64, 72\)"),
        (
            {"masks": [torch.zeros(64, 64)] * 3},
            "Mask 1 is black everywhere.* leave masks out, or use Load Image Folder",
        ),
        ({"masks": [(torch.arange(72) < 4).float().expand(64, 72)] * 3}, "black wherever its cropped image is"),
        (
            {"crop": Crop.BUCKETS, "resolution": 72},
            "With buckets the resolution must be a multiple of 64, but got 72",
        ),
    ],
)
def test_unusable_masks_and_sizes_are_refused_before_work_starts(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        prepared(tiny("sd1"), replace(inputs(), **changes))


def test_masks_that_hide_nothing_are_none() -> None:
    assert masks_from([torch.ones(2, 8, 8), torch.ones(1, 9, 9)]) == [] == masks_from(None)
    assert [mask.shape for mask in masks_from([torch.ones(2, 8, 8), torch.zeros(1, 9, 9)])] == [(8, 8), (8, 8), (9, 9)]


def test_captions_of_a_folder_are_one_each_and_missing_ones_are_usual() -> None:
    assert one_caption_each(["a cat\non grass", ""], 2, "cat") == ["a cat on grass", "photo of a cat"]


def test_only_folders_inside_the_input_folder_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "input" / "pets" / "tom").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    assert list_input_folders() == ["pets", "pets/tom"]
    assert find_input_folder("pets/tom") == tmp_path / "input" / "pets" / "tom"
    for name in ("../secret", "/etc", "pets/none"):
        with pytest.raises(UserInputError, match="There is no folder"):
            find_input_folder(name)
    before = fingerprint(tmp_path / "input" / "pets")
    Image.new("RGB", (8, 8)).save(tmp_path / "input" / "pets" / "a.png")
    assert fingerprint(tmp_path / "input" / "pets") != before


def test_flipping_adds_each_image_as_the_vae_sees_it_mirrored() -> None:
    base = tiny("sd1")
    flipped = prepared(base)
    plain, mirrored = (
        prepared(base, flip=False),
        prepared(base, replace(inputs(), images=[i.flip(1) for i in pictures()]), flip=False),
    )
    assert flipped.references.latents.shape == (3, 2, 4, 8, 8) and plain.references.latents.shape == (3, 1, 4, 8, 8)
    for variant, expected in enumerate((plain, mirrored)):
        assert torch.allclose(flipped.references.latents[:, variant], expected.references.latents[:, 0], atol=1e-5)


def test_every_image_is_encoded_once_and_the_steps_use_the_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("sd1")
    encode, encoded = base.vae.encode, []
    monkeypatch.setattr(base.vae, "encode", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    train(base, inputs(regularized=True), steps=6, evaluate_every=2)
    assert encoded == [2] * 5, "three photographs and two class images, each with its mirror image"
