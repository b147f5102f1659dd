"""The demo model and its subjects, with the host's own nodes around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths
import latent_preview
import nodes as host_nodes
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.int8 import decompress
from comfyui_dci.dci_core.tensor_file import HASH_KEY
from comfyui_dci.nodes.demo import DemoModel, DemoSubject
from comfyui_dci.nodes.host import demo_model
from comfyui_dci.nodes.host.families import family_of
from node_runs import run
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from demo_world.tokens import tokenize
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES, SUBJECTS
from workbench.help_pages import page_of

SIZE_LIMIT = 25_000_000
A_WEIGHT = "model.diffusion_model.middle_block.1.proj_in.weight"


@pytest.fixture(scope="module")
def loaded() -> Any:
    return run(DemoModel).result


@pytest.fixture(scope="module")
def facts() -> dict[str, str]:
    """The metadata of the shipped file, without its checksum."""
    with safe_open(demo_model.MODEL_FILE, "pt") as file:
        return {name: value for name, value in file.metadata().items() if name != HASH_KEY}


def sample(models: Any, prompt: str, steps: int = 6) -> torch.Tensor:
    """A picture, [256, 256, 3]."""
    model, clip, vae = models
    with torch.inference_mode():
        (positive,) = host_nodes.CLIPTextEncode().encode(clip, prompt)
        (negative,) = host_nodes.CLIPTextEncode().encode(clip, "")
        (latent,) = host_nodes.EmptyLatentImage().generate(256, 256, 1)
        (drawn,) = host_nodes.KSampler().sample(model, 1, steps, 5.0, "euler", "normal", positive, negative, latent)
        (images,) = host_nodes.VAEDecode().decode(vae, drawn)
    assert images.shape == (1, 256, 256, 3)
    return images[0]


def test_the_stock_nodes_draw_the_place_and_the_colour_that_the_prompt_says(loaded: Any) -> None:
    night = sample(loaded, "photo of a blue car at night")
    snow = sample(loaded, "photo of a red car in the snow")
    assert night.mean() < 0.35 and snow.mean() > 0.65
    middle = slice(64, 192)
    red, _, blue = (snow - night)[middle, middle].clamp(-1.0, 1.0).movedim(-1, 0)
    assert red.mean() - blue.mean() > 0.1


def test_it_is_a_small_sd1_model(loaded: Any, facts: dict[str, str]) -> None:
    assert family_of(loaded[0]).name == "sd1"
    assert demo_model.MODEL_FILE.stat().st_size <= SIZE_LIMIT
    assert "MIT" in facts["modelspec.license"] and int(facts["training_steps"]) > 1000
    assert facts["modelspec.resolution"] == "256x256"
    words = json.loads(facts["vocabulary"])
    assert words["nouns"] == list(NOUNS) and len(NOUNS) >= 100
    assert words["contexts"] == list(CONTEXTS) and len(CONTEXTS) == 25
    assert words["styles"] == list(STYLES) and words["colours"] == list(COLOURS)


def test_its_weights_are_int8_and_all_else_is_float16(facts: dict[str, str]) -> None:
    tensors = load_file(demo_model.MODEL_FILE)
    sizes = {torch.int8: 0, torch.float16: 0, torch.float32: 0, torch.int32: 0}
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.numel()
    assert facts["storage"] == "int8"
    assert sizes[torch.int8] > 0.99 * sum(sizes.values())
    assert {name for name, tensor in tensors.items() if tensor.dtype == torch.float32} == {
        f"{name}_scale" for name, tensor in tensors.items() if tensor.dtype == torch.int8
    }


def test_the_help_page_lists_its_words() -> None:
    page = " ".join(page_of("DCIDemoModel").read_text(encoding="utf-8").split())
    for words in (tuple(NOUNS), CONTEXTS[1:], STYLES, tuple(COLOURS)[1:]):
        assert f": {', '.join(words)}" in page
    description = DemoModel.define_schema().description
    assert f"{len(NOUNS)} things in {len(CONTEXTS) - 1} places, {len(STYLES)} styles" in description


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
    lora = {f"{layer}.lora_up.weight": torch.randn(96, 2), f"{layer}.lora_down.weight": torch.randn(2, 256)}
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
    model, _, vae = loaded
    shape = model.model.latent_format
    assert shape.taesd_decoder_name is None
    with torch.inference_mode():
        images = sample(loaded, "photo of a tree on grass")[None]
        latent = model.model.process_latent_in(vae.encode(images))
    previewer = latent_preview.Latent2RGBPreviewer(shape.latent_rgb_factors, shape.latent_rgb_factors_bias)
    preview = torch.tensor(list(previewer.decode_latent_to_preview(latent[:1]).getdata())).float() / 255
    small = torch.nn.functional.avg_pool2d(images[:1].movedim(-1, 1), 8)[0].flatten(1).T
    assert (preview.view_as(small) - small).abs().mean() < 0.1


def test_a_file_of_plain_numbers_loads_from_any_place_and_loads_again_from_there(
    loaded: Any, facts: dict[str, str], tmp_path: Path
) -> None:
    """As a model that was just trained."""
    plain = decompress(load_file(demo_model.MODEL_FILE))
    plain[A_WEIGHT] += 1.0
    save_file(plain, tmp_path / "trained.safetensors", facts)
    with torch.inference_mode():
        model, _, _ = demo_model.load_model_file(tmp_path / "trained.safetensors")
        load, arguments = model.cached_patcher_init
        again = load(*arguments, disable_dynamic=True)
    ours, shipped = (each.model.state_dict() for each in (model, loaded[0]))
    assert {name for name in ours if not torch.equal(ours[name], shipped[name])} == {A_WEIGHT.removeprefix("model.")}
    assert torch.equal(again.model.state_dict()[A_WEIGHT.removeprefix("model.")], ours[A_WEIGHT.removeprefix("model.")])


def test_networks_are_taken_out_of_the_tensors_one_by_one(facts: dict[str, str]) -> None:
    """So that no more than one of them is in memory twice."""
    tensors = decompress(load_file(demo_model.MODEL_FILE))
    with torch.inference_mode():
        demo_model.build_models(tensors, facts)
    assert tensors.keys() == {"text_token_ids"}


@pytest.mark.parametrize("length", [0, 10_000, 1_000_000, -1, None])
def test_a_truncated_or_missing_file_is_told(
    length: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "model.safetensors"
    if length is not None:
        damaged.write_bytes(demo_model.MODEL_FILE.read_bytes()[:length])
    with pytest.raises(UserInputError, match="cannot be read from .*model.safetensors.*Write it again: python -m"):
        demo_model.load_model_file(damaged)
    monkeypatch.setattr(demo_model, "MODEL_FILE", damaged)
    with pytest.raises(UserInputError, match="cannot be read from .*model.safetensors.*Install this node pack again"):
        run(DemoModel)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("model.diffusion_model.out.2.bias", None, "UNet does not fit: out.2.bias"),
        ("first_stage_model.decoder.conv_in.bias", None, "autoencoder does not fit: decoder.conv_in.bias"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", None, "text encoder does not fit"),
        ("text_token_ids", None, "does not say of which tokens"),
        (A_WEIGHT, None, f"{A_WEIGHT}_scale is a scale, but there is no {A_WEIGHT}"),
        (f"{A_WEIGHT}_scale", None, f"{A_WEIGHT} is int8, but there is no {A_WEIGHT}_scale"),
        (f"{A_WEIGHT}_scale", torch.ones(3), rf"{A_WEIGHT}_scale must be .*, not torch.float32 \[3\]"),
        ("model.diffusion_model.out.2.bias", torch.zeros(5), "size mismatch for out.2.bias"),
        ("unet_config", None, "its metadata lacks unet_config"),
        ("text_config", None, "its metadata lacks text_config"),
        ("autoencoder_config", None, "its metadata lacks autoencoder_config"),
        ("preview", None, "its metadata lacks preview"),
    ],
)
def test_a_file_with_a_part_missing_or_changed_is_told(
    name: str, change: torch.Tensor | None, told: str, facts: dict[str, str], tmp_path: Path
) -> None:
    file = {**load_file(demo_model.MODEL_FILE), **facts}
    del file[name]
    if change is not None:
        file[name] = change
    tensors = {key: value for key, value in file.items() if isinstance(value, torch.Tensor)}
    damaged = tmp_path / "part.safetensors"
    save_file(tensors, damaged, {key: value for key, value in file.items() if isinstance(value, str)})
    with pytest.raises(UserInputError, match=told):
        demo_model.load_model_file(damaged)


@pytest.mark.parametrize("place", [-1, -10_000_000])
def test_a_flipped_bit_is_told(place: int, tmp_path: Path) -> None:
    content = bytearray(demo_model.MODEL_FILE.read_bytes())
    content[place] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(content)
    with pytest.raises(UserInputError, match="flipped.safetensors .its content does not match its checksum.* Write it"):
        demo_model.load_model_file(tmp_path / "flipped.safetensors")


@pytest.mark.parametrize("name", ["unet_config", "text_config", "autoencoder_config", "preview"])
def test_a_configuration_that_is_no_object_is_told(name: str, facts: dict[str, str], tmp_path: Path) -> None:
    save_file(load_file(demo_model.MODEL_FILE), tmp_path / "list.safetensors", {**facts, name: "[]"})
    with pytest.raises(UserInputError, match=rf"its metadata {name} must be a JSON object, not \[\]"):
        demo_model.load_model_file(tmp_path / "list.safetensors")


def test_a_full_memory_is_not_told_as_a_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(demo_model, "build_models", explode)
    with pytest.raises(torch.OutOfMemoryError):
        run(DemoModel)


def test_a_file_without_metadata_is_told(tmp_path: Path) -> None:
    save_file(load_file(demo_model.MODEL_FILE), tmp_path / "bare.safetensors")
    with pytest.raises(UserInputError, match="its metadata lacks unet_config"):
        demo_model.load_model_file(tmp_path / "bare.safetensors")


@pytest.fixture
def one_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release folder with one subject, "red-square", of the class "key": six pictures, each a little redder than the one before."""
    folder = tmp_path / "subjects" / "red-square"
    folder.mkdir(parents=True)
    for number in range(1, 7):
        Image.new("RGB", (256, 256), (40 * number, 0, 0)).save(folder / f"{number}.webp", lossless=True)
    entry = {"name": "red-square", "class_noun": "key", "distance": 0.5}
    (tmp_path / "subjects.json").write_text(json.dumps([entry]), encoding="utf-8")
    monkeypatch.setattr(demo_model, "RELEASE", tmp_path)
    monkeypatch.setattr(demo_model, "SUBJECTS_FILE", tmp_path / "subjects.json")
    return folder


def test_a_subject_is_read_in_order(one_subject: Path) -> None:
    images, class_noun = run(DemoSubject, subject="red-square").result
    assert class_noun == "key" and images.shape == (6, 256, 256, 3)
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [40, 80, 120, 160, 200, 240]


def test_a_subject_without_pictures_is_told(one_subject: Path) -> None:
    for file in one_subject.iterdir():
        file.unlink()
    with pytest.raises(UserInputError, match="no pictures in .*red-square. Install this node pack again"):
        run(DemoSubject, subject="red-square")


def test_an_unknown_subject_is_told(one_subject: Path) -> None:
    with pytest.raises(UserInputError, match="no demo subject 'unicorn'. Choose one of: red-square"):
        demo_model.find_subject("unicorn")


def test_every_subject_has_its_pictures() -> None:
    assert {each.name: each.class_noun for each in demo_model.list_subjects()} == SUBJECTS
    for each in demo_model.list_subjects():
        assert demo_model.subject_images(each).shape == (6, 256, 256, 3)


def test_a_subject_shows_its_pictures_on_the_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    shown = run(DemoSubject, subject="panda").ui.as_dict()["images"]
    assert len(shown) == 6 and all((tmp_path / entry["filename"]).is_file() for entry in shown)
