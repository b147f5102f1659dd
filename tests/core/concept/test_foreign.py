"""Files of other programs: what is found in each layout, by hand, and what is refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.file import save_concept
from comfyui_dci.dci_core.concept.foreign import CLIP_VOCABULARY, Foreign, foreign_concept
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.families import FAMILIES
from concept_files import small_concept
from safetensors.torch import save_file
from torch import Tensor, nn

INNER = "input_blocks.4.1.transformer_blocks.0.attn2"
BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
HOST = f"diffusion_model.{INNER}"
K, V = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0, 6.0], [7.0, 8.0]])
ROW, OTHER = torch.tensor([0.5, 0.25, 0.125]), torch.tensor([1.0, 2.0, 3.0])


def read(path: Path, content: dict[str, Any], family: str = "sd1") -> Foreign:
    """Write a file as its program does, and read it."""
    (save_file if path.suffix == ".safetensors" else torch.save)(content, path)
    return foreign_concept(path, FAMILIES[family])


def plain(words: Any) -> dict[str, dict[str, Any]]:
    return {word: {encoder: rows.tolist() for encoder, rows in vectors.items()} for word, vectors in words.items()}


def assert_key_and_value(found: dict[str, Tensor] | Any) -> None:
    assert {name: weight.tolist() for name, weight in found.items()} == {
        f"{HOST}.to_k": K.tolist(),
        f"{HOST}.to_v": V.tolist(),
    }


def refusal(path: Path, content: Any, family: str = "sd1") -> str:
    with pytest.raises(UserInputError) as refused:
        read(path, content, family)
    assert path.name in str(refused.value)
    return str(refused.value)


def test_textual_inversions_of_diffusers(tmp_path: Path) -> None:
    both = torch.stack([ROW, OTHER])
    assert plain(read(tmp_path / "a.bin", {"<cat-toy>": ROW}).words) == {"<cat-toy>": {"clip_l": [ROW.tolist()]}}
    found = read(tmp_path / "learned_embeds.safetensors", {"<cat-toy>": both.half()}, "sd2")
    assert plain(found.words) == {"<cat-toy>": {"clip_h": both.tolist()}} and not found.weights


def test_embeddings_of_automatic1111_and_of_the_host(tmp_path: Path) -> None:
    old = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": ROW[None]},
        "name": "tom",
        "step": 9,
        "sd_checkpoint": None,
    }
    assert plain(read(tmp_path / "a.pt", old).words) == {"tom": {"clip_l": [ROW.tolist()]}}
    assert plain(read(tmp_path / "b.safetensors", {"emb_params": ROW[None]}).words)["emb_params"]
    assert list(read(tmp_path / "c.bin", {"<attn-toy>": ROW}).words) == ["<attn-toy>"]
    several = {"string_to_param": {"a": ROW, "b": OTHER}, "name": "tom"}
    assert list(read(tmp_path / "d.pt", several).words) == ["a", "b"]
    halves = {"clip_l": ROW[None], "clip_g": OTHER[None]}
    assert plain(read(tmp_path / "xl.safetensors", halves, "sdxl").words) == {
        "xl": {"clip_l": [ROW.tolist()], "clip_g": [OTHER.tolist()]}
    }


def test_custom_diffusion_weights_of_diffusers(tmp_path: Path) -> None:
    key, value = (f"{BLOCK}.attn2.processor.to_{kind}_custom_diffusion.weight" for kind in "kv")
    for name, empty in (("w.safetensors", torch.zeros(0)), ("w.bin", {})):
        found = read(tmp_path / name, {f"{BLOCK}.attn1.processor": empty, key: K, value: V})
        assert_key_and_value(found.weights)
        assert not found.words and not found.changes


def test_the_bias_of_the_output_is_kept_apart(tmp_path: Path) -> None:
    key = f"{BLOCK}.attn2.processor.to_out_custom_diffusion.0"
    found = read(tmp_path / "w.bin", {f"{key}.weight": K, f"{key}.bias": ROW})
    assert list(found.weights) == list(found.biases) == [f"{HOST}.to_out.0"]
    assert found.biases[f"{HOST}.to_out.0"].tolist() == ROW.tolist()


def test_custom_diffusion_s_own_files(tmp_path: Path) -> None:
    of_compvis = {f"model.diffusion_model.{INNER}.to_{kind}.weight": weight for kind, weight in (("k", K), ("v", V))}
    found = read(
        tmp_path / "delta_epoch=000000.ckpt", {"state_dict": {**of_compvis, "embed": torch.stack([ROW, OTHER])}}
    )
    assert_key_and_value(found.weights)
    two = {"<new1>": {"clip_l": [ROW.tolist()]}, "<new2>": {"clip_l": [OTHER.tolist()]}}
    assert plain(found.words) == two
    assert_key_and_value(read(tmp_path / "bare.ckpt", {"state_dict": of_compvis}).weights)
    unet = {f"{BLOCK}.attn2.to_k.weight": K, f"{BLOCK}.attn2.to_v.weight": V}
    found = read(tmp_path / "delta.bin", {"unet": unet, "modifier_token": {"<new1>": ROW, "<new2>": OTHER}})
    assert_key_and_value(found.weights)
    assert plain(found.words) == two
    found = read(tmp_path / "xl.bin", {"unet": unet, "modifier_token": {"<new1>": [ROW, OTHER]}}, "sdxl")
    assert plain(found.words) == {"<new1>": {"clip_l": [ROW.tolist()], "clip_g": [OTHER.tolist()]}}


def test_compressed_deltas_are_changes_and_not_weights(tmp_path: Path) -> None:
    """u = [[1], [2]] times v = [[3, 4]]."""
    factors = {"u": torch.tensor([[1.0], [2.0]]), "v": torch.tensor([[3.0, 4.0]])}
    found = read(tmp_path / "compressed_delta.bin", {"unet": {f"{BLOCK}.attn2.to_k.weight": factors}})
    assert not found.weights and found.changes[f"{HOST}.to_k"].tolist() == [[3.0, 4.0], [6.0, 8.0]]


def test_what_the_authors_of_dci_write(tmp_path: Path) -> None:
    """Parameters under the network's own names, and the whole table of words, whose last rows are new."""
    table = torch.zeros(CLIP_VOCABULARY + 2, 3)
    table[-2:] = torch.stack([ROW, OTHER])
    layers = {f"{INNER}.to_k.weight": nn.Parameter(K), f"{INNER}.to_v.weight": nn.Parameter(V)}
    content = {"state_dict": {**layers, "transformer.text_model.embeddings.token_embedding.weight": table}}
    found = read(tmp_path / "embeddings_gs-899.ckpt", content)
    assert_key_and_value(found.weights)
    assert plain(found.words) == {"<new1>": {"clip_l": [ROW.tolist()]}, "<new2>": {"clip_l": [OTHER.tolist()]}}
    assert not any(weight.requires_grad for weight in found.weights.values())


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (__import__("os").mkdir, (str(self.folder),))


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    folder, path = tmp_path / "made", tmp_path / "a.bin"
    told = refusal(path, {"<toy>": ROW, "x": Trap(folder)})
    assert "it asks for" in told and "mkdir" in told and "Ask for a .safetensors file" in told
    assert "weights_only" not in told  # torch itself advises to switch the check off
    assert not folder.exists()
    torch.load(path, weights_only=False)
    assert folder.exists()  # so the file was a trap


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"<toy>": nn.Linear(2, 2)}, "it asks for torch.nn.modules.linear.Linear"),
        ([ROW], "it holds a list where names and tensors are expected"),
        ({"<toy>": {1, 2}}, "'<toy>' in it is a set"),
        ({"<toy>": {"a": {"b": {"c": {"d": ROW}}}}}, "in it is a dict"),
        ({"<toy>": "text"}, "'<toy>' in it is no vector"),
        ({"<toy>": torch.ones(1, 2, 3)}, "'<toy>' in it is no vector"),
        ({"<toy>": torch.tensor([1, 2])}, "'<toy>' in it is no vector"),
        ({"<toy>": torch.tensor([1.0, torch.nan])}, "'<toy>' in it holds values that are not finite"),
        ({"state_dict": {}, "optimizer_states": [1]}, "it holds 'optimizer_states' too"),
        ({"unet": {}, "text_encoder": {"a": ROW}}, "it holds a trained text encoder"),
        ({"state_dict": {f"{INNER}.to_k.weight": K, "alphas_cumprod": ROW}}, "it holds 'alphas_cumprod' too"),
        ({"unet": [1]}, "'unet' in it holds no names"),
        ({f"{BLOCK}.attn1.to_k.weight": K}, "attn1.to_k.weight' in it is no weight of a cross-attention layer"),
        ({f"{BLOCK}.attn2.to_k.weight": ROW}, "attn2.to_k.weight' in it is no weight of a cross-attention layer"),
        ({f"{BLOCK}.attn2.to_k.weight": {"u": K}}, "attn2.to_k.weight' in it is no weight of a cross-attention layer"),
        ({f"{BLOCK}.attn2.to_k.weight": {"u": K, "v": ROW[None]}}, "in it is no weight of a cross-attention layer"),
        ({f"{BLOCK}.attn2.to_k.weight": K / 0}, "attn2.to_k.weight' in it holds values that are not finite"),
        ({"other.attn2.to_k.weight": K}, "'other.attn2.to_k' is no layer of an SD1.x"),
        ({"clip_l": ROW, "clip_g": ROW}, "vectors for 2 text encoders, and this sd1 model has clip_l"),
    ],
)
def test_whatever_else_a_file_holds_is_refused_with_the_reason(content: Any, reason: str, tmp_path: Path) -> None:
    assert reason in refusal(tmp_path / "a.ckpt", content)


def test_one_vector_is_too_few_for_two_text_encoders(tmp_path: Path) -> None:
    told = refusal(tmp_path / "a.bin", {"<toy>": ROW}, "sdxl")
    assert "'<toy>' in it has vectors for 1 text encoder, and this sdxl model has clip_l, clip_g" in told


def test_a_lora_and_a_concept_of_this_pack_are_sent_where_they_belong(tmp_path: Path) -> None:
    names = (
        f"lora_unet_{BLOCK.replace('.', '_')}_attn2_to_k",
        "unet.up_blocks.0.attentions.0.attn2.processor.to_k_lora",
    )
    for name, ending in zip(names, (".lora_up.weight", ".up.weight")):
        told = refusal(tmp_path / "lora.safetensors", {name + ending: K, name + ending.replace("up", "down"): V})
        assert "it is a LoRA. Load it with LoraLoader" in told
    save_concept(small_concept(), tmp_path / "ours.safetensors")
    with pytest.raises(
        UserInputError, match="it is a concept of this pack. Put it into models/dci_concepts and use Load"
    ):
        foreign_concept(tmp_path / "ours.safetensors", FAMILIES["sdxl"])


def test_an_old_torch_whose_check_can_be_passed_by_reads_safetensors_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tmp_path / "a.bin", {"<toy>": ROW})
    for version, refused in (("2.5.1+cu121", True), ("2.6.0", False), ("2.11.0+cu130", False), ("3.0.0", False)):
        monkeypatch.setattr(torch, "__version__", version)
        assert read(tmp_path / "a.safetensors", {"<toy>": ROW}).words
        if refused:
            with pytest.raises(UserInputError, match=r"a.bin cannot be imported: torch 2.5.1\+cu121 cannot read such"):
                foreign_concept(tmp_path / "a.bin", FAMILIES["sd1"])
        else:
            assert foreign_concept(tmp_path / "a.bin", FAMILIES["sd1"]).words


@pytest.mark.parametrize("name", ["a.bin", "a.ckpt", "a.safetensors"])
def test_junk_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"junk" * 9)
    with pytest.raises(UserInputError, match=f"{name} cannot be "):
        foreign_concept(tmp_path / name, FAMILIES["sd1"])
