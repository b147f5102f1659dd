"""Apply Concept: changes clones only, undoes itself, refuses what does not fit, and its file serves other loaders."""

from __future__ import annotations

import logging
from pathlib import Path

import comfy.model_management
import comfy.sd
import comfy.utils
import folder_paths
import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.file import load_concept, save_concept
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.concepts import store as concept_store
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.weights import base_hash, key_value_weights
from patcher_state import assert_unchanged, patcher_state
from safetensors.torch import load_file
from scenes import encode, ksample, random_concept, relative_difference, scene

from workbench.tiny import tiny, tiny_model


def test_applying_and_dropping_leaves_the_weights_bit_identical() -> None:
    with torch.inference_mode():
        base = tiny("sd1")
        before, text_before = patcher_state(base.model), patcher_state(base.clip.patcher)
        stock = ksample(base.model, encode(base.clip, "a cat"), encode(base.clip, ""))
        model, clip = apply_concept(base.model, base.clip, random_concept(base))
        changed = ksample(model, encode(clip, "a V* cat"), encode(clip, ""))
        again = ksample(base.model, encode(base.clip, "a cat"), encode(base.clip, ""))
        assert torch.equal(again, stock) and not torch.equal(changed, stock)
        comfy.model_management.unload_all_models()
    assert_unchanged(base.model, before)
    assert_unchanged(base.clip.patcher, text_before)


def test_strength_scales_the_weights_and_nothing_else() -> None:
    s = scene()
    with torch.inference_mode():
        none, clip = apply_concept(s.base.model, s.base.clip, s.concept, 0.0)
        half, _ = apply_concept(s.base.model, s.base.clip, s.concept, 0.5)
    pos, neg = encode(clip, "a V* cat"), encode(clip, "")
    assert torch.equal(ksample(none, pos, neg), ksample(s.base.model, pos, neg))
    assert torch.equal(encode(clip, "a V* cat")[0][0], encode(s.clip, "a V* cat")[0][0])
    scaled = Concept({k: 0.5 * v for k, v in s.concept.deltas.items()}, s.concept.tokens, s.concept.info)
    with torch.inference_mode():
        by_hand, _ = apply_concept(s.base.model, s.base.clip, scaled)
    assert relative_difference(ksample(half, pos, neg), ksample(by_hand, pos, neg)) < 1e-5


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_file_is_a_weight_difference_and_an_embedding_for_the_hosts_own_loaders(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scene(family)
    save_concept(s.concept, tmp_path / "mine.safetensors", "float32")
    with torch.inference_mode():
        file = comfy.utils.load_torch_file(str(tmp_path / "mine.safetensors"), safe_load=True)
        model, _ = comfy.sd.load_lora_for_models(s.base.model, None, file, 1.0, 0.0)
        reader = s.base.clip.clone()
        for name in ("clip_l", "clip_g"):
            if hasattr(reader.tokenizer, name):
                encoder = getattr(reader.tokenizer, name)
                monkeypatch.setattr(encoder, "embedding_directory", [str(tmp_path)])
                width = getattr(reader.cond_stage_model, name).transformer.get_input_embeddings().weight.shape[1]
                monkeypatch.setattr(encoder, "embedding_size", width)
        ours = encode(s.clip, "a V* cat")
        theirs = encode(reader, "a embedding:mine cat")
        assert torch.equal(ours[0][0], theirs[0][0])
    assert torch.equal(ksample(model, ours, s.negative), ksample(s.model, ours, s.negative))


def test_a_saved_checkpoint_keeps_keys_and_values_and_no_vectors(tmp_path: Path) -> None:
    s = scene()
    with torch.inference_mode():
        comfy.sd.save_checkpoint(str(tmp_path / "saved.safetensors"), s.model, s.clip, s.base.vae)
        kept = load_file(tmp_path / "saved.safetensors")
        for name, weight in key_value_weights(s.base.model).items():
            assert torch.allclose(kept[f"model.{name}.weight"], weight + s.concept.deltas[name], atol=1e-6)
        words = s.base.clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
        (table,) = (value for name, value in kept.items() if name.endswith("token_embedding.weight"))
        assert torch.equal(table.float(), words) and not any(name.startswith("clip_l") for name in kept)
        checkpoint = tiny_model("sd1")
        for name in s.concept.deltas:
            checkpoint.model.get_submodule(name).weight.copy_(kept[f"model.{name}.weight"])
        texts: list[str] = []
        model, clip = apply_concept(checkpoint, s.base.clip, s.concept, 0.0, tell=texts.append)
    assert "another checkpoint" in texts[0]
    positive, expected = encode(clip, "a V* cat"), encode(s.clip, "a V* cat")
    assert torch.equal(positive[0][0], expected[0][0])
    assert relative_difference(ksample(model, positive, s.negative), ksample(s.model, expected, s.negative)) < 1e-4


def test_a_concept_survives_its_file(tmp_path: Path) -> None:
    s = scene()
    save_concept(s.concept, tmp_path / "c.safetensors", "float32")
    loaded = load_concept(tmp_path / "c.safetensors")
    assert loaded.info == s.concept.info
    with torch.inference_mode():
        model, clip = apply_concept(s.base.model, s.base.clip, loaded)
    assert torch.equal(
        ksample(model, encode(clip, "a V*"), s.negative), ksample(s.model, encode(s.clip, "a V*"), s.negative)
    )


def test_another_base_of_the_family_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    s = scene()
    other = tiny_model("sd1", seed=99)
    with caplog.at_level(logging.WARNING, "comfyui_dci"), torch.inference_mode():
        apply_concept(s.base.model, s.base.clip, s.concept)
        assert not caplog.records
        apply_concept(other, s.base.clip, s.concept)
    assert "another checkpoint of the same family" in caplog.text


def test_another_family_or_text_encoder_is_refused() -> None:
    s, xl = scene("sd1"), scene("sdxl")
    with pytest.raises(UserInputError, match="trained on a sd1 model, this is a sdxl model"):
        apply_concept(xl.base.model, xl.base.clip, s.concept)
    with pytest.raises(UserInputError, match="Connect the CLIP"):
        apply_concept(s.base.model, xl.base.clip, s.concept)


def test_the_hash_is_of_the_base_not_of_what_is_patched_onto_it() -> None:
    s = scene()
    assert base_hash(s.model) == base_hash(s.base.model) != base_hash(tiny_model("sd1", seed=99))
    before = base_hash(s.model)
    ksample(s.model, s.positive, s.negative)  # now the concept is merged into the shared weights
    assert base_hash(s.model) == base_hash(s.base.model) == before
    assert len(key_value_weights(s.model)) == 32


def where(name: str, overwrite: bool = False) -> Path:
    """Where a concept of that name would be saved."""
    return concept_store.save_under(name, overwrite, lambda path, replace: path)[0]


def test_concept_names_cannot_leave_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = tmp_path / "elsewhere"
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dci_concepts", ([str(extra)], set()))
    concept_store.register_folder()
    folders, endings = folder_paths.folder_names_and_paths["dci_concepts"]
    assert folders == [str(tmp_path / "models" / "dci_concepts"), str(extra)] and endings == {".safetensors"}
    for name in ("../x", "/etc/x", "a/../../x", "", " ", "a\\b", "x:y", ".", "a/.", "C:x"):
        with pytest.raises(UserInputError):
            where(name)
    first = where("pets/tom")
    assert first == (tmp_path / "models" / "dci_concepts" / "pets" / "tom.safetensors").resolve()
    first.parent.mkdir(parents=True)
    first.touch()
    assert where("pets/tom.safetensors").name == "tom_2.safetensors"
    assert where("pets/tom", overwrite=True) == first
    with pytest.raises(UserInputError, match="no concept 'nobody.safetensors'"):
        concept_store.find_concept("nobody.safetensors")


def test_a_read_only_models_folder_costs_saving_and_not_the_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Path, parents: bool = False, exist_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {})
    monkeypatch.setattr(Path, "mkdir", refuse)
    concept_store.register_folder()
    assert concept_store.list_concepts() == []
    assert "Read-only file system. Concepts cannot be saved there" in caplog.text
