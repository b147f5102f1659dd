"""DCI Export Concept: its files give the stock nodes the concept's very picture, nothing is replaced, and what is wrong is told before."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import comfy.utils
import nodes as host_nodes
import pytest
import torch
from comfy.cli_args import args
from comfyui_dci.dci_core import tensor_file
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.layer_names import HOST_PREFIX, diffusers_name
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.exchange import ExportConcept
from comfyui_dci.nodes.host.families import family_of
from comfyui_dci.nodes.host.tokenizer import tokenizers_of
from comfyui_dci.nodes.host.weights import cross_attention_shapes, key_value_weights
from concept_files import contents, small_concept
from model_folders import use_model_folders
from node_runs import run
from safetensors.torch import load_file
from scenes import Scene, encode, ksample, relative_difference, scene

from workbench.tiny import tiny_model

FAMILIES = ["sd1", "sd2", "sdxl", "koala_700m"]
PAIR = ("loras/tom.safetensors", "embeddings/tom.safetensors")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Model folders of a test's own."""
    use_model_folders(tmp_path, monkeypatch)
    return tmp_path


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@torch.inference_mode()
def stock_picture(s: Scene, models: Path, monkeypatch: pytest.MonkeyPatch, name: str = "tom") -> torch.Tensor:
    """What the stock nodes make of the two files."""
    reader = s.base.clip.clone()
    for tokenizer in tokenizers_of(reader).values():
        monkeypatch.setattr(tokenizer, "embedding_directory", [str(models / "embeddings")])
    model, clip = host_nodes.LoraLoader().load_lora(s.base.model, reader, f"{name}.safetensors", 1.0, 1.0)
    return ksample(model, encode(clip, f"a embedding:{name} cat"), s.negative)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stock_nodes_make_the_concept_s_picture_bit_for_bit(
    family: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scene(family)
    result = run(ExportConcept, concept=s.concept, name="tom", precision="float32")
    ours = ksample(s.model, encode(s.clip, "a V* cat"), s.negative)
    assert torch.equal(stock_picture(s, models, monkeypatch), ours)
    assert not torch.equal(ksample(s.base.model, encode(s.clip, "a V* cat"), s.negative), ours)
    assert result[0] is s.concept and result[1] == "tom"
    told = result.ui.as_dict()["text"][0]
    assert "no bit is lost" in told and 'prompts say "embedding:tom cat"' in told
    assert all(place in told for place in PAIR) and " MB" in told


def test_half_precision_and_a_rank_say_their_error_and_it_is_what_the_stock_nodes_lose(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scene("sd1")
    ours = ksample(s.model, encode(s.clip, "a V* cat"), s.negative)
    differences = {}
    for name, given in {"half": {}, "low": {"rank": 2, "precision": "float32"}}.items():
        told = run(ExportConcept, concept=s.concept, name=name, **given).ui.as_dict()["text"][0]
        error = float(told.partition("error of the weight changes: ")[2].partition("%")[0]) / 100
        assert error == pytest.approx(lost(s.concept, s, models / "loras" / f"{name}.safetensors"), abs=5e-5)
        differences[name] = relative_difference(stock_picture(s, models, monkeypatch, name), ours)
    assert 0 < differences["half"] < 1e-3 < differences["low"]


def lost(concept: Concept, s: Scene, path: Path) -> float:
    """The share of the weight changes that a LoRA file lacks, as the host's loader reads it."""
    model, _ = comfy.sd.load_lora_for_models(s.base.model, None, load_file(path), 1.0, 0.0)
    missed, total = 0.0, 0.0
    for name, delta in concept.deltas.items():
        ((_, adapter, *_),) = model.patches[f"{name}.weight"]
        up, down, alpha, *_ = adapter.weights
        missed += (delta - up.float() @ down.float() * (alpha / len(down))).square().sum().item()
        total += delta.square().sum().item()
    return (missed / total) ** 0.5


@pytest.mark.parametrize("family", [*FAMILIES, "ssd1b", "vega"])
def test_layers_have_the_names_by_which_the_host_reads_files_of_diffusers(family: str) -> None:
    model = tiny_model(family)
    theirs = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    known = {HOST_PREFIX + ours.removesuffix(".weight"): name.removesuffix(".weight") for name, ours in theirs.items()}
    layers = cross_attention_shapes(model)
    assert layers and {name: diffusers_name(name, family_of(model)) for name in layers} == {
        name: known[name] for name in layers
    }


def test_both_files_take_the_first_name_that_is_free_for_both(models: Path) -> None:
    (models / "loras").mkdir()
    (models / "embeddings" / "pets").mkdir(parents=True)
    (models / "loras" / "tom.safetensors").write_text("mine")
    (models / "embeddings" / "tom_2.safetensors").write_text("mine")
    assert run(ExportConcept, concept=small_concept(), name="tom.safetensors")[1] == "tom_3"
    assert run(ExportConcept, concept=small_concept(), name="pets/tom")[1] == "pets/tom"
    assert run(ExportConcept, concept=small_concept(), name="pets/tom")[1] == "pets/tom_2"
    assert (models / "loras" / "tom.safetensors").read_text() == "mine"
    trigger = contents(models / "loras" / "pets" / "tom_2.safetensors")[1]["modelspec.trigger_phrase"]
    assert trigger == "tom_2 tortoise plushy"
    assert run(ExportConcept, concept=small_concept(), name="tom", overwrite=True)[1] == "tom"
    assert len(load_file(models / "loras" / "tom.safetensors")) == 12


def test_when_the_second_file_cannot_be_written_the_first_does_not_stay(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = tensor_file.save_file

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        if path.parent.name == "embeddings":
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path, metadata)

    monkeypatch.setattr(tensor_file, "save_file", full)
    with pytest.raises(UserInputError, match=r"could not be written: No space left on device. It needs up to 0.2 MB"):
        run(ExportConcept, concept=small_concept(), name="tom")
    assert files_in(models) == []


def test_a_name_taken_while_writing_is_left_alone_and_the_next_one_is_used(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = tensor_file.save_file

    def taken_meanwhile(tensors: Any, path: Path, metadata: Any) -> None:
        theirs = models / "embeddings" / "tom.safetensors"
        if path.parent.name == "embeddings" and not theirs.exists():
            theirs.write_text("theirs")
        save(tensors, path, metadata)

    monkeypatch.setattr(tensor_file, "save_file", taken_meanwhile)
    assert run(ExportConcept, concept=small_concept(), name="tom")[1] == "tom_2"
    assert files_in(models) == ["embeddings/tom.safetensors", "embeddings/tom_2.safetensors", "loras/tom_2.safetensors"]
    assert (models / "embeddings" / "tom.safetensors").read_text() == "theirs"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "The name '' cannot be a file in models/loras"),
        ("../tom", "cannot be a file in models/loras"),
        ("my cat", "The name 'my cat' cannot stand in a prompt as embedding:name. Use letters"),
        ("cat(1)", "cannot stand in a prompt"),
        ("n" * 201, "has 201 characters, and 200 are allowed"),
    ],
)
def test_a_name_is_looked_at_before_anything_runs(name: str, reason: str) -> None:
    assert reason in str(ExportConcept.validate_inputs(name=name, layout="lora_and_embedding"))


def test_another_layout_is_refused_with_those_there_are() -> None:
    told = ExportConcept.validate_inputs(name="tom", layout="pickle")
    assert told == "layout must be one of lora_and_embedding, diffusers, but got 'pickle'."


def test_a_good_name_or_one_that_is_linked_is_taken_and_a_folder_that_is_a_file_is_told(models: Path) -> None:
    for name, layout in (("pets/tom-2", "lora_and_embedding"), (None, "diffusers"), (None, None)):
        assert ExportConcept.validate_inputs(name=name, layout=layout) is True
    assert files_in(models) == []
    (models / "embeddings").write_text("a file")
    told = str(ExportConcept.validate_inputs(name="tom", layout="lora_and_embedding"))
    assert "The exported concept cannot be written to" in told and "embeddings" in told
    assert ExportConcept.validate_inputs(name="tom", layout="diffusers") is True


def test_with_disabled_metadata_the_files_say_nothing_of_the_subject(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(args, "disable_metadata", True)
    run(ExportConcept, concept=small_concept(), name="x")
    for folder in ("loras", "embeddings"):
        metadata = contents(models / folder / "x.safetensors")[1]
        assert metadata["ss_base_model_version"] == "sdxl_base_v1-0"
        assert not {name for name in metadata if name.startswith("modelspec")} and "tortoise" not in str(metadata)


def test_the_diffusers_layout_is_a_folder_with_the_model_s_weights_and_the_change(models: Path) -> None:
    s = scene("sd1")
    result = run(
        ExportConcept, concept=s.concept, name="tom", layout="diffusers", precision="float32", model=s.base.model
    )
    told = result.ui.as_dict()["text"][0]
    assert files_in(models) == [
        "diffusers/tom/learned_embeds.safetensors",
        "diffusers/tom/pytorch_custom_diffusion_weights.safetensors",
    ]
    assert "error of the weight changes: 0.01% at most" in told  # a sum in float32
    assert 'prompts say "v* cat"' in told and "checkpoint" not in told
    kept = load_file(models / "diffusers" / "tom" / "pytorch_custom_diffusion_weights.safetensors")
    name, delta = next(iter(s.concept.deltas.items()))
    weight = key_value_weights(s.base.model)[name]
    key = (
        diffusers_name(name, family_of(s.base.model)).replace("attn2.", "attn2.processor.") + "_custom_diffusion.weight"
    )
    assert torch.equal(kept[key], weight + delta)
    assert len(kept) == 32 + 16  # K and V of 16 layers, and 16 empty entries
    again = run(
        ExportConcept, concept=s.concept, name="tom", layout="diffusers", model=s.model
    )  # patched, with the concept
    assert again[1] == "tom_2"
    half = load_file(models / "diffusers" / "tom_2" / "pytorch_custom_diffusion_weights.safetensors")
    assert torch.equal(half[key], kept[key].half())
    other = run(ExportConcept, concept=s.concept, name="x", layout="diffusers", model=tiny_model("sd1", seed=9))
    assert (
        "trained on another checkpoint of the same family. The files hold this one's" in other.ui.as_dict()["text"][0]
    )


def test_what_the_diffusers_layout_cannot_do_is_said_before_anything_is_written(models: Path) -> None:
    s = scene("sd1")
    for given, reason in (
        ({}, "no model is connected. Connect the checkpoint"),
        (
            {"model": s.base.model, "rank": 4},
            "holds whole weights, but rank is 4. Set rank to 0, or layout to lora_and",
        ),
        ({"model": scene("sdxl").base.model}, "trained on a sd1 model, this is a sdxl model"),
    ):
        with pytest.raises(UserInputError, match=reason):
            run(ExportConcept, concept=s.concept, name="tom", layout="diffusers", **given)
    assert files_in(models) == []
