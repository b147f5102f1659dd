"""Concept files that are damaged, foreign or changed by hand: refused by name, and nothing of them used."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core import tensor_file
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.errors import UserInputError
from concept_files import KEY, LAYERS, VALUE, contents, refusal_of, rewrite
from safetensors.torch import save_file
from torch import Tensor


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


@pytest.mark.parametrize("version", ["3", "0", "one", None])
def test_another_format_version_is_refused_by_number(saved: Path, version: str | None) -> None:
    rewrite(saved, {}, {"format_version": version})
    message = refusal_of(saved)
    assert f"has concept format {version}, this version reads 1 and 2. " in message
    assert "Update the node pack." in message


@pytest.mark.parametrize(
    "change",
    [
        *({"class_noun": "dog"}, {"steps": "124"}, {"prefix": "3"}, {"base_hash": ""}, {"placeholder": "W*"}),
        *(
            {"clip_layer": "-2"},
            {"training_key": "a"},
            {"prediction": "v"},
            {"model_patches": "0"},
            {"clip_patches": "0"},
        ),
        *({"content_hash": ""}, {"content_hash": "0" * 64}),
    ],
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
        ({"settings": None, "format_version": "1"}, "its metadata lacks 'settings'"),
        ({"seed": None, "format_version": "1"}, "its metadata lacks 'seed'"),
        ({"steps": "many"}, "its metadata cannot be read (invalid literal"),
        ({"clip_layer": "last"}, "its metadata cannot be read (invalid literal"),
        ({"settings": "{", "format_version": "1"}, "its metadata cannot be read (Expecting property name"),
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
