"""The concept file: what is written, that it is whole or absent, and that nothing doubtful is accepted."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core import files
from comfyui_dci.dci_core.concept.file import load_concept, save_concept
from comfyui_dci.dci_core.errors import UserInputError
from concept_files import KEY, LAYERS, TYPES, checksum, contents, small_concept, small_info
from safetensors.torch import load_file


@pytest.mark.parametrize("precision", list(TYPES))
def test_a_saved_concept_is_read_back(path: Path, precision: str) -> None:
    concept = small_concept()
    save_concept(concept, path, precision)
    read = load_concept(path)
    assert read.info == concept.info
    assert set(read.deltas) == set(concept.deltas)
    for name, delta in concept.deltas.items():
        assert read.deltas[name].dtype == torch.float32
        assert torch.equal(read.deltas[name], delta.to(TYPES[precision]).float())
    assert read.contexts is not None
    assert concept.contexts is not None
    for written, given in ((read.tokens, concept.tokens), (read.contexts, concept.contexts)):
        assert set(written) == set(given)
        assert all(torch.equal(written[name], given[name]) for name in given), "vectors stay float32"


def test_float16_is_the_default_precision_of_the_deltas_only(saved: Path) -> None:
    tensors, _ = contents(saved)
    halved = {name for name, tensor in tensors.items() if tensor.dtype == torch.float16}
    assert halved == {f"{layer}.to_{kind}.diff" for layer in LAYERS for kind in "kv"}
    assert all(tensor.dtype == torch.float32 for name, tensor in tensors.items() if name not in halved)


def test_a_concept_without_contexts_is_read_back_without_them(path: Path) -> None:
    save_concept(replace(small_concept(), contexts=None), path)
    assert load_concept(path).contexts is None


def test_trained_parameters_and_views_can_be_saved(path: Path) -> None:
    concept = small_concept()
    tokens = {name: torch.nn.Parameter(rows.t().contiguous()).t() for name, rows in concept.tokens.items()}
    save_concept(replace(concept, tokens=tokens), path)
    assert all(torch.equal(load_concept(path).tokens[name], rows) for name, rows in concept.tokens.items())


def test_other_programs_find_weight_differences_and_embeddings_under_their_usual_keys(saved: Path) -> None:
    tensors = load_file(str(saved))
    assert set(tensors) == {
        *(f"{layer}.to_{kind}.diff" for layer in LAYERS for kind in "kv"),
        "clip_l",
        "clip_g",
        "image_contexts.clip_l",
        "image_contexts.clip_g",
    }
    assert tensors[f"{KEY}.diff"].shape == (4, 6)
    assert tensors["clip_l"].shape == (2, 8)


def test_the_metadata_hold_every_field_as_promised(saved: Path) -> None:
    tensors, metadata = contents(saved)
    settings = metadata.pop("settings")
    assert json.loads(settings) == small_info().settings
    assert metadata == {
        "format": "dci_concept",
        "format_version": "2",
        "family": "sdxl",
        "class_noun": "tortoise plushy",
        "placeholder": "<my-tortoise>",
        "prefix": "4",
        "suffix": "2",
        "concept_vectors": "2",
        "steps": "123",
        "seed": "9223372036854775808",
        "base_hash": "0f" * 32,
        "package_version": "9.8.7",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "https://github.com/comfyanonymous/ComfyUI",
        "modelspec.title": "<my-tortoise> tortoise plushy",
        "modelspec.trigger_phrase": "<my-tortoise> tortoise plushy",
        "content_hash": checksum(tensors, metadata | {"settings": settings}),
    }


def test_the_metadata_are_named_as_the_fields(saved: Path) -> None:
    _, metadata = contents(saved)
    later = {"training_key", "dataset_hash", "versions", "history", "prediction", "thumbnail"}  # written where known
    later |= {"clip_layer", "model_patches", "clip_patches"}
    own = {name for name in metadata if not name.startswith("modelspec.")}
    assert own == set(asdict(small_info())) - later | {"format", "content_hash"}


def test_a_run_that_tells_its_history_is_read_back(path: Path) -> None:
    told = {
        "training_key": "ab" * 32,
        "dataset_hash": "cd" * 32,
        "versions": {"torch": "2.11"},
        "history": {"loss": [0.1, 1 / 3], "evaluations": [{"step": 2.0, "loss": 0.25}], "best_step": 2},
        "prediction": "v",
        "clip_layer": -2,
        "model_patches": "12 " + "ab" * 32,
        "clip_patches": "0",
        "thumbnail": "data:image/jpeg;base64,AAAA",
        "settings": {"resolution": 768, "mode": "textual_inversion"},
    }
    save_concept(replace(small_concept(), deltas={}, info=replace(small_info(), **told)), path)
    assert load_concept(path).info == replace(small_info(), **told)
    shown = contents(path)[1]
    assert shown["modelspec.architecture"] == "stable-diffusion-xl-v1-base/textual-inversion"
    assert shown["modelspec.resolution"] == "768x768" and shown["modelspec.prediction_type"] == "v"
    assert shown["modelspec.thumbnail"] == told["thumbnail"] and "modelspec.date" not in shown


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "cat.safetensors"
    save_concept(small_concept(), path)
    assert load_concept(path).info == small_info()


def test_an_existing_file_is_replaced_and_nothing_else_left(saved: Path) -> None:
    other = replace(small_concept(), info=replace(small_info(), steps=9))
    save_concept(other, saved)
    assert load_concept(saved).info.steps == 9
    assert list(saved.parent.iterdir()) == [saved]


def test_the_file_may_be_read_by_whoever_may_read_other_files(saved: Path) -> None:
    """A temporary file is private to its owner; the concept beside the user's other models must not be."""
    ordinary = saved.parent / "ordinary"
    ordinary.touch()
    assert oct(saved.stat().st_mode) == oct(ordinary.stat().st_mode)


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_while_writing_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, existing: bool
) -> None:
    if existing:
        save_concept(small_concept(), path)
    before = {entry: entry.read_bytes() for entry in path.parent.iterdir()}

    def fail(*given: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, failing, fail)
    with pytest.raises(OSError, match="disk full"):
        save_concept(replace(small_concept(), info=replace(small_info(), steps=9)), path)
    assert {entry: entry.read_bytes() for entry in path.parent.iterdir()} == before


def test_a_wrong_precision_or_ending_is_refused_and_nothing_written(path: Path) -> None:
    with pytest.raises(UserInputError, match="precision must be one of float32, float16, bfloat16, but got 'fp16'"):
        save_concept(small_concept(), path, "fp16")
    with pytest.raises(UserInputError, match=r"A concept file ends in \.safetensors, but got 'cat\.pt'"):
        save_concept(small_concept(), path.with_name("cat.pt"))
    assert list(path.parent.iterdir()) == []


def test_a_delta_that_overflows_its_precision_is_refused_and_nothing_written(path: Path) -> None:
    concept = small_concept()
    concept.deltas[KEY][0, 0] = 70000.0
    with pytest.raises(UserInputError) as refusal:
        save_concept(concept, path, "float16")
    assert f"{KEY}.diff holds values too large for float16. Save in float32" in str(refusal.value)
    assert list(path.parent.iterdir()) == []
    save_concept(concept, path, "float32")
    assert load_concept(path).deltas[KEY][0, 0] == 70000.0


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("part", ["deltas", "tokens", "contexts"])
def test_values_that_are_not_numbers_are_never_written(path: Path, part: str, precision: str) -> None:
    """Another precision would not help, so none is recommended."""
    concept = small_concept()
    name, tensor = next(iter(getattr(concept, part).items()))
    tensor.view(-1)[0] = float("nan")
    with pytest.raises(UserInputError) as refusal:
        save_concept(concept, path, precision)
    assert name in str(refusal.value)
    assert "Save in float32" not in str(refusal.value)
    assert list(path.parent.iterdir()) == []
