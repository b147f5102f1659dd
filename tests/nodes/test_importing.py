"""DCI Import Concept: files of other programs become concepts that make the same picture; what is wrong is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.exchange import full_factors
from comfyui_dci.dci_core.concept.foreign import CLIP_VOCABULARY
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.concepts import LoadConcept, SaveConcept
from comfyui_dci.nodes.exchange import ExportConcept, ImportConcept
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.tokenizer import tokenizers_of
from comfyui_dci.nodes.host.weights import key_value_weights
from model_folders import use_model_folders
from node_runs import run
from safetensors.torch import save_file
from scenes import Scene, encode, ksample, relative_difference, scene

WEIGHTS, WORDS = "pytorch_custom_diffusion_weights.safetensors", "learned_embeds.safetensors"


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Model folders of a test's own."""
    use_model_folders(tmp_path, monkeypatch)
    for kind in ("loras", "embeddings"):
        (tmp_path / kind).mkdir()
    return tmp_path


def imported(s: Scene, weights: str = "none", embedding: str = "none", **given: Any) -> Concept:
    (concept,) = run(
        ImportConcept, model=s.base.model, clip=s.base.clip, weights=weights, embedding=embedding, **given
    ).result
    return concept


@torch.inference_mode()
def picture(s: Scene, concept: Concept) -> torch.Tensor:
    model, clip = apply_concept(s.base.model, s.base.clip, concept)
    return ksample(model, encode(clip, "a V* cat"), s.negative)


def assert_same_concept(s: Scene, concept: Concept) -> None:
    """The vectors are the same to the last bit, and the weights as far as a sum and a difference of float32 keep them."""
    assert all(torch.equal(concept.tokens[name], rows) for name, rows in s.concept.tokens.items())
    assert concept.deltas.keys() == s.concept.deltas.keys()
    assert concept.info.base_hash == s.concept.info.base_hash and concept.info.family == s.concept.info.family
    assert relative_difference(picture(s, concept), picture(s, s.concept)) < 1e-5


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_what_was_exported_for_diffusers_comes_back(family: str, models: Path) -> None:
    s = scene(family)
    run(ExportConcept, concept=s.concept, name="tom", layout="diffusers", precision="float32", model=s.base.model)
    shutil.move(models / "diffusers" / "tom" / WEIGHTS, models / "loras")
    shutil.move(models / "diffusers" / "tom" / WORDS, models / "embeddings")
    assert_same_concept(s, imported(s, WEIGHTS, WORDS))
    on_patched = run(ImportConcept, model=s.model, clip=s.base.clip, weights=WEIGHTS, embedding=WORDS)[0]
    assert_same_concept(s, on_patched)  # what lies on the model is left out


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_an_embedding_makes_the_picture_of_the_stock_nodes_bit_for_bit(
    family: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scene(family)
    inversion = Concept({}, s.concept.tokens, s.concept.info)
    run(ExportConcept, concept=inversion, name="tom")
    reader = s.base.clip.clone()
    for tokenizer in tokenizers_of(reader).values():
        monkeypatch.setattr(tokenizer, "embedding_directory", [str(models / "embeddings")])
    stock = ksample(s.base.model, encode(reader, "a embedding:tom cat"), s.negative)
    concept = imported(s, embedding="tom.safetensors")
    assert torch.equal(picture(s, concept), stock) and not concept.deltas


def of_compvis(s: Scene) -> dict[str, torch.Tensor]:
    """The concept's weights as Custom Diffusion saves them."""
    base = key_value_weights(s.base.model)
    return {f"model.{name}.weight": base[name] + delta for name, delta in s.concept.deltas.items()}


def test_custom_diffusion_s_delta_and_the_authors_checkpoint_are_the_concept(models: Path) -> None:
    s = scene("sd1")
    weights, rows = of_compvis(s), s.concept.tokens["clip_l"]
    torch.save({"state_dict": {**weights, "embed": rows}}, models / "loras" / "delta.ckpt")
    assert_same_concept(s, imported(s, "delta.ckpt"))
    bare = {name.removeprefix("model.diffusion_model."): torch.nn.Parameter(weight) for name, weight in weights.items()}
    table = torch.cat([torch.zeros(CLIP_VOCABULARY, rows.shape[1]), rows])
    bare["transformer.text_model.embeddings.token_embedding.weight"] = table
    torch.save({"state_dict": bare}, models / "loras" / "embeddings_gs-899.ckpt")
    assert_same_concept(s, imported(s, "embeddings_gs-899.ckpt"))


def test_compressed_deltas_keep_the_change_to_the_last_bit(models: Path) -> None:
    s = scene("sd1")
    state: dict[str, Any] = {"embed": s.concept.tokens["clip_l"]}
    for name, delta in s.concept.deltas.items():
        state[f"model.{name}.weight"] = dict(zip("uv", full_factors(delta)))
    torch.save({"state_dict": state}, models / "loras" / "compressed_delta.ckpt")
    concept = imported(s, "compressed_delta.ckpt")
    assert all(torch.equal(concept.deltas[name], delta) for name, delta in s.concept.deltas.items())


def test_an_imported_concept_is_saved_and_loaded_like_any_other(models: Path, concepts: Path) -> None:
    s = scene("sd1")
    save_file({"<toy>": s.concept.tokens["clip_l"]}, models / "embeddings" / "toy.safetensors")
    torch.save(of_compvis(s), models / "loras" / "delta.ckpt")
    result = run(
        ImportConcept,
        model=s.base.model,
        clip=s.base.clip,
        weights="delta.ckpt",
        embedding="toy.safetensors",
        class_noun="a tortoise plushy",
        placeholder=" W* ",
    )
    concept = result[0]
    assert (concept.info.class_noun, concept.info.placeholder, concept.info.steps) == ("tortoise plushy", "W*", 0)
    name = run(SaveConcept, concept=concept, name="mine", precision="float32")[1]
    (loaded,) = run(LoadConcept, name=name).result
    assert loaded.info == concept.info
    assert all(torch.equal(loaded.deltas[name], delta) for name, delta in concept.deltas.items())


def test_one_of_several_words_is_taken_by_its_name_and_all_otherwise(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s, told = scene("sd1"), []
    monkeypatch.setattr("comfyui_dci.nodes.exchange.text_of_node", lambda node: told.append)
    torch.save(
        {"modifier_token": {"<new1>": torch.ones(64), "<new2>": torch.zeros(64)}}, models / "embeddings" / "d.bin"
    )
    assert imported(s, embedding="d.bin", word="<new2>").tokens["clip_l"].tolist() == [[0.0] * 64]
    assert imported(s, embedding="d.bin").info.concept_vectors == 2
    assert told[0] == "read d.bin: 1 vector, no weights: a textual inversion"
    assert "The file holds <new1>, <new2>: V* stands for all of them together" in told[1]


def test_a_file_of_another_family_or_with_some_layers_only_is_refused(models: Path) -> None:
    s, xl = scene("sd1"), scene("sdxl")
    weights = of_compvis(s)
    torch.save({"state_dict": {**weights, "embed": torch.ones(1, 64)}}, models / "loras" / "delta.ckpt")
    with pytest.raises(UserInputError, match="'<new1>' in it has vectors for 1 text encoder, and this sdxl model has"):
        imported(xl, "delta.ckpt")
    first = {name: weight for name, weight in weights.items() if "input_blocks.1.1" in name}
    torch.save({**first, "embed": torch.ones(1, 64)}, models / "loras" / "part.ckpt")
    with pytest.raises(UserInputError, match="changes 2 cross-attention weights, this model has 32"):
        imported(s, "part.ckpt")
    torch.save({"<toy>": torch.ones(65)}, models / "embeddings" / "wide.pt")
    with pytest.raises(UserInputError, match="vectors for clip_l are 65 wide, this CLIP has {'clip_l': 64}"):
        imported(s, embedding="wide.pt")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "No file is chosen. Put it into models/loras or models/embeddings"),
        ({"weights": "gone.ckpt"}, "There is no file 'gone.ckpt' in models/loras. Choose one"),
        ({"embedding": "../x.pt"}, "There is no file '../x.pt' in models/embeddings"),
        ({"embedding": "toy.pt", "class_noun": "V*"}, "The class noun 'V*' cannot be used"),
        ({"embedding": "toy.pt", "placeholder": "V *"}, "The placeholder 'V *' cannot be used"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(given: dict[str, str], reason: str, models: Path) -> None:
    torch.save({"<toy>": torch.ones(64)}, models / "embeddings" / "toy.pt")
    values = {"weights": "none", "embedding": "none", "class_noun": "cat", **given}
    assert reason in str(ImportConcept.validate_inputs(**values))


def test_files_are_offered_linked_values_wait_and_a_changed_file_is_read_again(models: Path) -> None:
    file = models / "embeddings" / "toy.pt"
    torch.save({"<toy>": torch.ones(64)}, file)
    offered = {entry.id: entry.options for entry in ImportConcept.define_schema().inputs if hasattr(entry, "options")}
    assert offered == {"weights": ["none"], "embedding": ["none", "toy.pt"]}
    assert ImportConcept.validate_inputs(weights="none", embedding="toy.pt", class_noun="cat") is True
    assert ImportConcept.validate_inputs(weights=None, embedding=None, class_noun=None, placeholder=None) is True
    first = ImportConcept.fingerprint_inputs(weights="none", embedding="toy.pt", class_noun="cat")
    torch.save({"<toy>": torch.ones(2, 64)}, file)
    assert ImportConcept.fingerprint_inputs(weights="none", embedding="toy.pt", class_noun="cat") != first
