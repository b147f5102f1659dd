"""The concept file: what is written, that it is whole or absent, and that nothing doubtful is accepted."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core import tensor_file
from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo
from comfyui_dci.dci_core.concept.file import load_concept, save_concept
from comfyui_dci.dci_core.errors import UserInputError
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

LAYERS = (
    "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2",
    "diffusion_model.middle_block.1.transformer_blocks.0.attn2",
)
KEY, VALUE = f"{LAYERS[0]}.to_k", f"{LAYERS[0]}.to_v"
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def small_info() -> ConceptInfo:
    return ConceptInfo(
        family="sdxl",
        class_noun="tortoise plushy",
        placeholder="<my-tortoise>",
        prefix=4,
        suffix=2,
        concept_vectors=2,
        steps=123,
        seed=2**63,
        base_hash="0f" * 32,
        settings={"learning_rate": 2e-5, "flip": False, "note": 'a "quoted" \\ übung', "size": [512, 512], "vae": None},
        package_version="9.8.7",
    )


def small_concept() -> Concept:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return Concept(
        key_value_deltas={f"{layer}.to_{kind}": draw(4, 6) / 100 for layer in LAYERS for kind in "kv"},
        tokens={"clip_l": draw(2, 8), "clip_g": draw(2, 12)},
        info=small_info(),
        contexts={"clip_l": draw(3, 6, 8), "clip_g": draw(3, 6, 12)},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tortoise.safetensors"


@pytest.fixture
def saved(path: Path) -> Path:
    save_concept(small_concept(), path)
    return path


def contents(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The format's checksum, written out again: a file of today must be readable for ever."""
    stated = {name: value for name, value in metadata.items() if name != "content_hash"}
    digest = hashlib.sha256(json.dumps(stated, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        digest.update(bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()))
    return digest.hexdigest()


def rewrite(path: Path, tensors: Mapping[str, Tensor | None], metadata: Mapping[str, str | None]) -> None:
    """Change entries (None takes one out) and state the checksum that belongs to the result."""
    old_tensors, old_metadata = contents(path)
    new_tensors = {name: value for name, value in (old_tensors | dict(tensors)).items() if value is not None}
    new_metadata = {name: value for name, value in (old_metadata | dict(metadata)).items() if value is not None}
    new_metadata["content_hash"] = checksum(new_tensors, new_metadata)
    save_file(new_tensors, str(path), metadata=new_metadata)


def refusal_of(path: Path) -> str:
    with pytest.raises(UserInputError) as refusal:
        load_concept(path)
    assert path.name in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("precision", list(TYPES))
def test_a_saved_concept_is_read_back(path: Path, precision: str) -> None:
    concept = small_concept()
    save_concept(concept, path, precision)
    read = load_concept(path)
    assert read.info == concept.info
    assert set(read.key_value_deltas) == set(concept.key_value_deltas)
    for name, delta in concept.key_value_deltas.items():
        assert read.key_value_deltas[name].dtype == torch.float32
        assert torch.equal(read.key_value_deltas[name], delta.to(TYPES[precision]).float())
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
        "format_version": "1",
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
    own = {name for name in metadata if not name.startswith("modelspec.")}
    assert own == set(asdict(small_info())) - later | {"format", "content_hash"}


def test_a_run_that_tells_its_history_is_read_back(path: Path) -> None:
    told = {
        "training_key": "ab" * 32,
        "dataset_hash": "cd" * 32,
        "versions": {"torch": "2.11"},
        "history": {"loss": [0.1, 1 / 3], "evaluations": [{"step": 2.0, "loss": 0.25}], "best_step": 2},
        "prediction": "v",
        "thumbnail": "data:image/jpeg;base64,AAAA",
        "settings": {"resolution": 768, "mode": "textual_inversion"},
    }
    save_concept(replace(small_concept(), info=replace(small_info(), **told)), path)
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

    monkeypatch.setattr(tensor_file.os, failing, fail)
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
    concept.key_value_deltas[KEY][0, 0] = 70000.0
    with pytest.raises(UserInputError) as refusal:
        save_concept(concept, path, "float16")
    assert f"{KEY}.diff holds values too large for float16. Save in float32" in str(refusal.value)
    assert list(path.parent.iterdir()) == []
    save_concept(concept, path, "float32")
    assert load_concept(path).key_value_deltas[KEY][0, 0] == 70000.0


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("part", ["key_value_deltas", "tokens", "contexts"])
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


def test_a_missing_file_is_named(path: Path) -> None:
    assert "There is no concept file tortoise.safetensors. Choose one of the list" in refusal_of(path)


def test_a_folder_is_no_concept_file(path: Path) -> None:
    path.mkdir()
    assert "There is no concept file" in refusal_of(path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, "header", "half", "all but one"])
def test_a_truncated_file_is_refused(saved: Path, length: int | str) -> None:
    whole = saved.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    kept = {"header": header, "half": (header + len(whole)) // 2, "all but one": len(whole) - 1}.get(length, length)
    saved.write_bytes(whole[:kept])
    message = refusal_of(saved)
    assert "it is truncated or no safetensors file" in message
    assert "Save the concept again, or get the file anew." in message


@pytest.mark.parametrize(
    "data",
    [b"Hello, I am a text.\n" * 100, b"\x00" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}", b"PK\x03\x04" * 50],
    ids=["text", "zeros", "empty header", "archive"],
)
def test_a_file_of_another_kind_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    refusal_of(path)


def test_a_foreign_safetensors_file_is_told_from_a_damaged_one(path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"lora_unet_mid.lora_up.weight": torch.ones(2, 2)}, str(path), metadata=metadata)
        message = refusal_of(path)
        assert "is a safetensors file, but not a DCI concept. Choose a file made by Save Concept." in message


@pytest.mark.parametrize("version", ["2", "0", "one", None])
def test_another_format_version_is_refused_by_number(saved: Path, version: str | None) -> None:
    rewrite(saved, {}, {"format_version": version})
    message = refusal_of(saved)
    assert f"has concept format {version}, this version reads 1" in message
    assert "Update the node pack." in message


@pytest.mark.parametrize(
    "change",
    [{"class_noun": "dog"}, {"steps": "124"}, {"extra": "1"}, {"content_hash": ""}, {"content_hash": "0" * 64}],
)
def test_edited_metadata_do_not_match_the_checksum(saved: Path, change: dict[str, str]) -> None:
    tensors, metadata = contents(saved)
    save_file(tensors, str(saved), metadata=metadata | change)
    assert "does not match its checksum, so it was changed after it was saved" in refusal_of(saved)


def test_metadata_without_a_checksum_are_refused(saved: Path) -> None:
    tensors, metadata = contents(saved)
    del metadata["content_hash"]
    save_file(tensors, str(saved), metadata=metadata)
    assert "does not match its checksum" in refusal_of(saved)


@pytest.mark.parametrize("name", [f"{KEY}.diff", "clip_l", "image_contexts.clip_g"])
def test_an_edited_tensor_does_not_match_the_checksum(saved: Path, name: str) -> None:
    tensors, metadata = contents(saved)
    tensors[name].view(-1)[3] += 0.5
    save_file(tensors, str(saved), metadata=metadata)
    assert "does not match its checksum" in refusal_of(saved)


def test_a_flipped_bit_in_the_data_does_not_match_the_checksum(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-5] ^= 1
    saved.write_bytes(data)
    assert "does not match its checksum" in refusal_of(saved)


def test_a_rewritten_file_with_its_own_checksum_is_accepted(saved: Path) -> None:
    """So that the refusals below are about the content, not about the checksum."""
    rewrite(saved, {}, {"steps": "124"})
    assert load_concept(saved).info.steps == 124


@pytest.mark.parametrize(
    "tensors, told",
    [
        ({"unheard_of": torch.ones(2)}, "it holds the unknown tensor 'unheard_of'"),
        ({"t5xxl": torch.ones(2, 8)}, "it holds the unknown tensor 't5xxl'"),
        ({f"{VALUE}.diff": None}, f"{KEY} has no matching {VALUE}"),
        ({f"{KEY}.diff": None}, f"{VALUE} has no matching {KEY}"),
        ({f"{VALUE}.diff": torch.ones(4, 7)}, f"has no matching {LAYERS[0]}.to_"),
        ({f"{KEY}.diff": torch.ones(4, 6, 1)}, f"{KEY} (4, 6, 1) is not a cross-attention weight"),
        (
            {"diffusion_model.out.2.diff": torch.ones(4, 6)},
            "diffusion_model.out.2 (4, 6) is not a cross-attention weight",
        ),
        (
            {f"{LAYERS[0]}.to_x.diff": torch.ones(4, 6)},
            f"{LAYERS[0]}.to_x (4, 6) is not a cross-attention weight",
        ),
        (
            {f"{LAYERS[0].replace('attn2', 'attn1')}.to_k.diff": torch.ones(4, 6)},
            "attn1.to_k (4, 6) is not a cross-attention weight",
        ),
        (
            {"clip_l": torch.ones(3, 8)},
            "clip_l has shape (3, 8), its metadata promises 2 vectors",
        ),
        ({"clip_l": torch.ones(2)}, "clip_l has shape (2,), its metadata promises 2 vectors"),
        (
            {"clip_l": None, "clip_g": None, "image_contexts.clip_l": None, "image_contexts.clip_g": None},
            "it has no concept vectors",
        ),
        ({"image_contexts.clip_l": torch.ones(3, 5, 8)}, "image_contexts.clip_l has the wrong shape (3, 5, 8)"),
        ({"image_contexts.clip_l": torch.ones(3, 6, 9)}, "image_contexts.clip_l has the wrong shape (3, 6, 9)"),
        ({"image_contexts.clip_l": torch.ones(6, 8)}, "image_contexts.clip_l has the wrong shape (6, 8)"),
        ({"clip_l": None}, "image_contexts.clip_l has the wrong shape"),
        (
            {f"{KEY}.diff": torch.full((4, 6), float("nan"))},
            f"{KEY} holds values that are not finite float32 or float16 or bfloat16 numbers",
        ),
        (
            {"clip_l": torch.full((2, 8), float("inf"))},
            "clip_l holds values that are not finite float32 or float16 or bfloat16 numbers",
        ),
        (
            {"image_contexts.clip_l": torch.full((3, 6, 8), float("nan"))},
            "clip_l holds values that are not finite float32 or float16 or bfloat16 numbers",
        ),
        (
            {f"{KEY}.diff": torch.ones(4, 6, dtype=torch.int32)},
            f"{KEY} holds values that are not finite float32 or float16 or bfloat16 numbers",
        ),
        (
            {f"{KEY}.diff": torch.ones(4, 6, dtype=torch.complex64)},
            f"{KEY} holds values that are not finite float32 or float16 or bfloat16 numbers",
        ),
    ],
)
def test_wrong_tensors_are_refused_by_name_even_with_a_right_checksum(
    saved: Path, tensors: dict[str, Tensor | None], told: str
) -> None:
    rewrite(saved, tensors, {})
    assert told in refusal_of(saved)


@pytest.mark.parametrize("kind", ["number", "float8"])
@pytest.mark.parametrize("name", ["clip_l", f"{KEY}.diff"])
def test_kinds_of_tensors_that_no_concept_has_are_refused_in_the_same_words(saved: Path, name: str, kind: str) -> None:
    tensor = contents(saved)[0][name]
    rewrite(saved, {name: tensor.sum() if kind == "number" else tensor.to(torch.float8_e4m3fn)}, {})
    assert "cannot be used" in refusal_of(saved)


@pytest.mark.parametrize(
    "metadata, told",
    [
        ({"family": None}, "its metadata lacks 'family'"),
        ({"settings": None}, "its metadata lacks 'settings'"),
        ({"steps": "many"}, "its metadata cannot be read (invalid literal"),
        ({"settings": "{"}, "its metadata cannot be read (Expecting property name"),
        ({"concept_vectors": "0"}, "concept_vectors must be between 1 and 16, but got 0"),
        ({"prefix": "-1"}, "prefix must be between 0 and 16, but got -1"),
    ],
)
def test_wrong_metadata_are_refused_by_name_even_with_a_right_checksum(
    saved: Path, metadata: dict[str, str | None], told: str
) -> None:
    rewrite(saved, {}, metadata)
    assert told in refusal_of(saved)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_file_that_the_system_does_not_give_is_not_called_damaged(path: Path) -> None:
    path.mkdir()
    with pytest.raises(UserInputError, match="tortoise.safetensors cannot be used: it cannot be read"):
        tensor_file.read_tensors(path)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_under_a_safetensors_name_is_refused_and_not_unpickled(path: Path, kind: str) -> None:
    marker = path.with_name("unpickled")
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"clip_l": Trap(marker)}))
    else:
        torch.save({"clip_l": Trap(marker)}, path)
        torch.load(path, weights_only=False)
        assert marker.exists(), "the trap works"
        marker.unlink()
    assert "it is truncated or no safetensors file" in refusal_of(path)
    assert not marker.exists()
