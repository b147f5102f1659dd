"""Class images: what the stock sampler draws, drawn once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import nodes as host_nodes
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.fingerprint import tensors_hash
from comfyui_dci.nodes.class_images import ClassImages
from comfyui_dci.nodes.host.training import class_images, progress
from comfyui_dci.nodes.ico_trainer import ICOTrainer
from node_runs import defaults, run

from workbench.tiny import tiny

pytestmark = pytest.mark.sweep

SMALL = {"class_noun": "cat", "steps": 2, "resolution": 64, "prompts": ""}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of everything that is sampled."""
    seeds: list[int] = []
    sample = host_nodes.common_ksampler

    def counted(model: Any, seed: int, *args: Any, **kwargs: Any) -> Any:
        seeds.append(seed)
        return sample(model, seed, *args, **kwargs)

    monkeypatch.setattr(host_nodes, "common_ksampler", counted)
    return seeds


def draw(**changes: Any) -> tuple[list[torch.Tensor], list[str]]:
    base = tiny("sd1")
    images, captions = run(
        ClassImages, **{"model": base.model, "clip": base.clip, "vae": base.vae, **SMALL, **changes}
    ).result
    return images, captions


def test_they_are_what_the_stock_sampler_draws_rounded_to_eight_bits() -> None:
    base = tiny("sd1")
    images, captions = draw(count=3, prompts="photo of a cat\n\n  drawing of  a cat ", seed=5, cfg=3.0)
    assert captions == ["photo of a cat", "drawing of a cat", "photo of a cat"]
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        with torch.inference_mode():
            positive, negative = (host_nodes.CLIPTextEncode().encode(base.clip, text)[0] for text in (caption, ""))
            (latent,) = host_nodes.KSampler().sample(
                base.model,
                5 + number,
                2,
                3.0,
                "euler",
                "normal",
                positive,
                negative,
                {"samples": torch.zeros(1, 4, 8, 8)},
            )
            expected = base.vae.decode(latent["samples"]).clamp(0, 1)
        assert image.shape == (1, 64, 64, 3) and torch.equal(image, (expected * 255).round() / 255)
    assert not torch.equal(images[0], images[2])


def test_each_is_drawn_once(drawn: list[int], concepts: Path) -> None:
    first, _ = draw(count=2)
    assert drawn == [0, 1]
    again, captions = draw(count=4)
    assert drawn == [0, 1, 2, 3] and captions == ["photo of a cat"] * 4
    assert all(torch.equal(one, other) for one, other in zip(first, again[:2], strict=True))
    draw(count=2, seed=1)
    assert len(drawn) == 4
    draw(count=1, prompts="a cat at night")
    draw(count=1, prompts="\ufeffa cat at night")  # pasted with a byte-order mark
    draw(count=1, cfg=2.0)
    draw(count=1, steps=3)
    draw(count=1, resolution=128)
    draw(count=1, negative_prompt="blurry")
    assert len(drawn) == 9
    files = sorted((concepts / "class_images").glob("*/*.png"))
    assert len(files) == 9 and not list((concepts / "class_images").glob("*/.*"))


def test_those_of_before_are_found_when_another_folder_has_become_the_default(
    drawn: list[int], concepts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(count=1)
    paths = [str(concepts.parent / "big"), str(concepts)]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dci_concepts", (paths, {".safetensors"}))
    draw(count=2)
    assert drawn == [0, 1] and len(list((concepts / "class_images").glob("*/*.png"))) == 2


def test_those_on_a_disk_that_is_only_read_are_taken_and_others_are_drawn_elsewhere(
    drawn: list[int], concepts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = draw(count=1)
    own = concepts.parent / "own"
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "dci_concepts", ([str(own), str(concepts)], {".safetensors"})
    )
    monkeypatch.setattr(os, "access", lambda place, mode: own in Path(place).parents)
    images, _ = draw(count=2)
    assert drawn == [0, 1] and torch.equal(images[0], first[0])
    assert [len(list(folder.glob("class_images/*/*.png"))) for folder in (concepts, own)] == [1, 1]


def test_a_folder_that_cannot_be_written_is_found_before_the_first_is_drawn(drawn: list[int], concepts: Path) -> None:
    concepts.mkdir(exist_ok=True)
    (concepts / "class_images").write_text("a file where the folder should be")
    with pytest.raises(UserInputError, match="Class images cannot be written to"):
        draw(count=1)
    assert drawn == []


def test_another_model_draws_its_own(drawn: list[int]) -> None:
    base = tiny("sd1")
    draw(count=1)
    key = next(key for key in base.model.get_key_patches() if key.endswith("attn2.to_k.weight"))
    patched = base.model.clone()
    patched.add_patches({key: (torch.ones_like(base.model.get_key_patches()[key][0][0]),)})
    draw(count=1, model=patched)
    assert len(drawn) == 2


@pytest.mark.parametrize("damage", ["png", "caption", "no caption"])
def test_a_damaged_one_is_drawn_again(damage: str, drawn: list[int], concepts: Path) -> None:
    images, _ = draw(count=2)
    file = sorted((concepts / "class_images").glob("*/*.png"))[1]
    if damage == "png":
        file.write_bytes(file.read_bytes()[:40])
    elif damage == "caption":
        file.with_suffix(".txt").write_text("photo of a dog\n")
    else:
        file.with_suffix(".txt").unlink()
    again, captions = draw(count=2)
    assert drawn == [0, 1, 1] and captions == ["photo of a cat"] * 2
    assert all(torch.equal(one, other) for one, other in zip(images, again, strict=True))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the node with the id 7 says, where sampling a picture is all that takes time: two seconds."""
    now, texts = [100.0], []
    sample = host_nodes.common_ksampler

    def timed(*args: Any, **kwargs: Any) -> Any:
        now[0] += 2.0
        return sample(*args, **kwargs)

    monkeypatch.setattr(host_nodes, "common_ksampler", timed)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "send_text", lambda text, node: texts.append(text))
    return texts


def draw_on_node(**changes: Any) -> None:
    """Draw as ``draw`` does, on a node whose id is 7."""
    base, clone = tiny("sd1"), ClassImages.PREPARE_CLASS_CLONE(None)
    clone.hidden.unique_id = "7"
    given = {"model": base.model, "clip": base.clip, "vae": base.vae, **SMALL, **changes}
    with torch.inference_mode():
        clone.EXECUTE_NORMALIZED(**{**defaults(ClassImages), **given})


def test_the_node_says_what_drawing_costs(told: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="comfyui_dci")
    draw_on_node(count=2)
    assert told[-1] == "2 class images, 0 found, 2 drawn in 4 s; the next run finds them all"
    told.clear()
    draw_on_node(count=6)
    assert told == [
        "class image 1 of 6",
        "class image 2 of 6",
        "class image 3 of 6",  # the first that is drawn: loading the model is part of its time
        "class image 4 of 6, 4 s left",
        "class image 5 of 6, 2 s left",
        "class image 6 of 6",
        "6 class images, 2 found, 4 drawn in 8 s; the next run finds them all",
    ]
    draw_on_node(count=6)
    assert told[-1] == "6 class images, all found"
    draw_on_node(count=1)
    assert told[-1] == "1 class image, all found"
    said = [record.message for record in caplog.records if "found" in record.message]
    assert said == [
        "2 class images, 0 found, 2 drawn in 4 s; the next run finds them all.",
        "6 class images, 2 found, 4 drawn in 8 s; the next run finds them all.",
        "6 class images, all found.",
        "1 class image, all found.",
    ]


def test_a_gap_is_filled_and_the_order_stays(drawn: list[int], concepts: Path) -> None:
    first, captions = draw(count=4, prompts="a cat\na cat on grass")
    sorted((concepts / "class_images").glob("*/*.png"))[1].unlink()
    again, same = draw(count=4, prompts="a cat\na cat on grass")
    assert drawn == [0, 1, 2, 3, 1] and same == captions
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_a_cancelled_run_keeps_what_it_has_drawn(drawn: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    stop = comfy.model_management.InterruptProcessingException

    def tell(text: str, node: str) -> None:
        told.append(text)
        if len(told) == 2:
            raise stop

    monkeypatch.setattr(progress, "send_text", tell)
    with pytest.raises(stop):
        draw_on_node(count=3)
    assert [text.split(",")[0] for text in told] == ["class image 1 of 3", "class image 2 of 3"] and drawn == [0, 1]
    draw(count=3)
    assert drawn == [0, 1, 2]


def test_the_prompts_of_a_fresh_node_name_many_scenes(drawn: list[int]) -> None:
    given = defaults(ClassImages)["prompts"]
    prompts = class_images.prompts_of(given)
    assert prompts == class_images.DEFAULT_PROMPTS and len(set(prompts)) == len(prompts) >= 10
    assert all(prompt.count(class_images.CLASS_NOUN) == 1 for prompt in prompts)
    _, captions = draw(count=len(prompts) + 1, prompts=given)
    assert captions == [prompt.replace("<class noun>", "cat") for prompt in (*prompts, prompts[0])]
    assert len(drawn) == len(captions)
    assert defaults(ClassImages)["count"] == class_images.ClassImagePlan("cat").count


def test_the_model_is_left_as_it_was_and_training_takes_the_images() -> None:
    base = tiny("sd1")

    def weights() -> list[str]:
        clip = base.clip.cond_stage_model.state_dict()
        vae = base.vae.first_stage_model.state_dict()
        return [tensors_hash(some.items()) for some in (base.model.model.state_dict(), clip, vae)]

    before = weights()
    images, captions = draw(count=3, prompts="photo of a cat\na cat on grass")
    assert weights() == before and not base.model.patches
    concept, losses, _ = run(
        ICOTrainer,
        model=base.model,
        clip=base.clip,
        vae=base.vae,
        images=[torch.rand(2, 64, 64, 3)],
        class_noun="cat",
        regularization_images=images,
        regularization_captions=captions,
        steps=2,
        resolution=64,
    )
    assert len(losses["loss"]) == 2 and concept.info.settings["regularization_images"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count must be between 1 and 1000, but got 0"),
        ({"steps": 0}, "steps must be between 1 and 1000, but got 0"),
        ({"resolution": 60}, "resolution must be 0 or a multiple of 8 between 64 and 2048, but got 60"),
        ({"class_noun": " "}, "class noun"),
        ({"count": 5, "prompts": "a cat\n" + "a cat " * 60}, "longer than 75 tokens"),
        ({"vae": None}, "There is no VAE"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_drawn(changes: Any, message: str, drawn: list[int]) -> None:
    with pytest.raises(UserInputError, match=message):
        draw(**changes)
    assert not drawn


def test_a_model_that_cannot_be_trained_is_refused(drawn: list[int]) -> None:
    base = tiny("inpaint")
    with pytest.raises(UserInputError, match="9 channels"):
        draw(model=base.model, clip=base.clip)
    assert not drawn


def test_prompts_are_lines_that_say_something() -> None:
    assert class_images.prompts_of(" a  cat \n\n\t\nb\n") == ("a cat", "b") and class_images.prompts_of(" \n") == ()


def test_the_class_noun_can_be_left_open_in_prompts() -> None:
    plan = class_images.ClassImagePlan("polar bear", ("a <class noun> at night", "<class noun> by a cat", "grass"))
    assert [plan.prompt(number) for number in range(4)] == [
        "a polar bear at night",
        "polar bear by a cat",
        "grass",
        "a polar bear at night",
    ]
    assert class_images.ClassImagePlan("cat").prompt(3) == "photo of a cat"
