"""The demo model and its subjects, with the host's own nodes around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import latent_preview
import nodes as host_nodes
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.demo import DemoModel, DemoSubject
from comfyui_dci.nodes.host import demo_model
from comfyui_dci.nodes.host.families import family_of
from node_runs import run
from safetensors import safe_open
from safetensors.torch import save_file

from demo_world.classifier import NAMES, load_judge, to_tensor
from demo_world.concepts import CONCEPTS
from demo_world.tokens import tokenize

SIZE_LIMIT = 20_000_000


@pytest.fixture(scope="module")
def loaded() -> Any:
    return run(DemoModel).result


def sample(model: Any, clip: Any, vae: Any, prompt: str, steps: int = 20) -> torch.Tensor:
    with torch.inference_mode():
        (positive,) = host_nodes.CLIPTextEncode().encode(clip, prompt)
        (negative,) = host_nodes.CLIPTextEncode().encode(clip, "")
        (latent,) = host_nodes.EmptyLatentImage().generate(128, 128, 2)
        (drawn,) = host_nodes.KSampler().sample(model, 1, steps, 5.0, "euler", "normal", positive, negative, latent)
        (images,) = host_nodes.VAEDecode().decode(vae, drawn)
    return images


def test_the_stock_nodes_draw_what_the_prompt_says(loaded: Any) -> None:
    judge = load_judge()
    for prompt, noun, context in (
        ("photo of a frog at night", "frog", "at night"),
        ("photo of a car on a red carpet", "car", "on a red carpet"),
    ):
        images = sample(*loaded, prompt)
        assert images.shape == (2, 128, 128, 3)
        scores = judge((images.movedim(-1, 1)).clamp(0, 1))
        assert NAMES["subject"][scores["subject"].sum(0).argmax()] == noun
        assert NAMES["context"][scores["context"].sum(0).argmax()] == context


def test_it_is_a_small_sd1_model(loaded: Any) -> None:
    model, clip, vae = loaded
    assert family_of(model).name == "sd1"
    assert demo_model.MODEL_FILE.stat().st_size < SIZE_LIMIT
    with safe_open(demo_model.MODEL_FILE, "pt") as file:
        facts = file.metadata()
        kinds = {file.get_tensor(name).dtype for name in file.keys() if name != "text_token_ids"}  # noqa: SIM118 (the file is no mapping)
    assert kinds == {torch.float16}
    assert "OFL" in facts["modelspec.license"] and int(facts["training_steps"]) > 1000
    words = json.loads(facts["vocabulary"])
    assert len(words["nouns"]) >= 16 and len(words["contexts"]) == 9


def test_words_it_never_learned_are_no_error_and_always_the_same(loaded: Any) -> None:
    _, clip, _ = loaded
    again = run(DemoModel).result[1]
    first, second = (c.encode_from_tokens(c.tokenize("a quokka (reading:1.3) poetry")) for c in (clip, again))
    assert torch.isfinite(first).all() and torch.equal(first, second)
    known = clip.encode_from_tokens(clip.tokenize("a cat on grass"))
    assert (tokenize(["a cat on grass"]) >= 0).all() and not torch.allclose(first[:, :8], known[:, :8], atol=1e-2)


def test_a_lora_loads_and_leaves(loaded: Any, tmp_path: Path) -> None:
    import comfy.sd

    model, clip, _ = loaded
    layer = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
    lora = {f"{layer}.lora_up.weight": torch.randn(64, 2), f"{layer}.lora_down.weight": torch.randn(2, 128)}
    save_file(lora, tmp_path / "lora.safetensors")
    with torch.inference_mode():
        changed, _ = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 0.0)
    assert len(changed.patches) == 1 and not model.patches


def test_nodes_that_want_a_copy_of_their_own_can_load_it_again(loaded: Any) -> None:
    """The host's Train LoRA and its models without DynamicVRAM do."""
    model = loaded[0]
    load, arguments = model.cached_patcher_init
    with torch.inference_mode():
        again = load(*arguments, disable_dynamic=True)
    assert again.model is not model.model and not again.is_dynamic()
    own, other = again.get_key_patches(), model.get_key_patches()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[key][0][0], other[key][0][0]) for key in own)


def test_live_previews_show_its_colours(loaded: Any) -> None:
    model, clip, vae = loaded
    shape = model.model.latent_format
    assert shape.taesd_decoder_name is None
    with torch.inference_mode():
        images = sample(model, clip, vae, "photo of a tree on grass")
        latent = model.model.process_latent_in(vae.encode(images))
    previewer = latent_preview.Latent2RGBPreviewer(shape.latent_rgb_factors, shape.latent_rgb_factors_bias)
    preview = torch.tensor(list(previewer.decode_latent_to_preview(latent[:1]).getdata())).float() / 255
    small = torch.nn.functional.avg_pool2d(images[:1].movedim(-1, 1), 8)[0].flatten(1).T
    assert (preview.view_as(small) - small).abs().mean() < 0.1


def test_a_damaged_or_missing_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes(demo_model.MODEL_FILE.read_bytes()[:10_000])
    for path in (damaged, tmp_path / "nothing.safetensors"):
        monkeypatch.setattr(demo_model, "MODEL_FILE", path)
        with pytest.raises(UserInputError, match="Install this node pack again"):
            run(DemoModel)


def test_a_file_with_a_part_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with safe_open(demo_model.MODEL_FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if not name.endswith("out.2.bias")}  # noqa: SIM118 (the file is no mapping)
        save_file(tensors, tmp_path / "part.safetensors", file.metadata())
    monkeypatch.setattr(demo_model, "MODEL_FILE", tmp_path / "part.safetensors")
    with pytest.raises(UserInputError, match="UNet does not fit: out.2.bias"):
        run(DemoModel)


@pytest.mark.parametrize("number", range(len(CONCEPTS)), ids=[concept.name for concept in CONCEPTS])
def test_every_subject_has_its_pictures_and_the_judge_knows_them(number: int) -> None:
    concept = CONCEPTS[number]
    images, class_noun = run(DemoSubject, subject=concept.name)
    assert class_noun == concept.noun and images.shape == (6, 128, 128, 3)
    scores = load_judge()(to_tensor((images * 255).round().byte().numpy()))["subject"]
    assert all(NAMES["subject"][index] == concept.name for index in scores.argmax(dim=1))


def test_an_unknown_subject_is_told() -> None:
    with pytest.raises(UserInputError, match="no demo subject 'unicorn'. Choose one of: violet_tiger"):
        demo_model.find_subject("unicorn")
