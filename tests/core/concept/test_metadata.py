"""What a concept file says of its training: how much of it is written, and that other programs may change what is not used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import ConceptInfo
from comfyui_dci.dci_core.concept.file import load_concept, save_concept
from comfyui_dci.dci_core.concept.metadata import Metadata
from concept_files import contents, refusal_of, rewrite, small_concept, small_info
from safetensors.torch import load_file, save_file

RUN: dict[str, Any] = {
    "training_key": "ab" * 32,
    "dataset_hash": "cd" * 32,
    "versions": {"torch": "2.11"},
    "history": {"loss": [0.1, 0.2], "evaluations": [{"step": 2.0, "loss": 0.25}], "best_step": 2},
    "prediction": "v",
    "thumbnail": "data:image/jpeg;base64,AAAA",
    "settings": {"resolution": 768},
    "clip_layer": -2,
    "model_patches": "0",
    "clip_patches": "0",
}


@pytest.fixture
def told(path: Path) -> Path:
    """A file that says everything."""
    save_concept(replace(small_concept(), info=full_info()), path)
    return path


def full_info() -> ConceptInfo:
    return replace(small_info(), **RUN)


def edit(path: Path, **changes: str | None) -> None:
    """Change metadata as another program does, which knows no checksum; None takes an entry out."""
    tensors, metadata = contents(path)
    changed = {name: value for name, value in {**metadata, **changes}.items() if value is not None}
    save_file(tensors, str(path), metadata=changed)


def read_quietly(path: Path) -> ConceptInfo:
    warnings: list[str] = []
    info = load_concept(path, warnings.append).info
    assert not warnings
    return info


def test_another_program_may_edit_the_title_and_take_the_picture_out(told: Path) -> None:
    edit(told, **{"modelspec.title": "My cat", "modelspec.thumbnail": None, "modelspec.author": "me", "extra": "1"})
    assert read_quietly(told) == replace(full_info(), thumbnail="")


@pytest.mark.parametrize(
    "field", ["settings", "history", "versions", "package_version", "seed", "dataset_hash", "thumbnail"]
)
def test_whatever_is_not_used_may_be_taken_out(told: Path, field: str) -> None:
    edit(told, **{"modelspec.thumbnail" if field == "thumbnail" else field: None})
    neutral = {"settings": {}, "history": {}, "versions": {}, "seed": None}.get(field, "")
    assert read_quietly(told) == replace(full_info(), **{field: neutral})


@pytest.mark.parametrize("field", ["class_noun", "placeholder", "prefix", "steps", "training_key", "clip_layer"])
def test_what_is_used_may_not(told: Path, field: str) -> None:
    edit(told, **{field: None})
    assert "does not match its checksum" in refusal_of(told)


@pytest.mark.parametrize(
    "field, text",
    [
        ("settings", "{"),
        ("settings", "[1]"),
        ("versions", '"2.11"'),
        ("history", "[" * 100_000),
        ("history", '{"loss": "none"}'),
        ("history", '{"loss": [NaN]}'),
        ("history", '{"evaluations": [{"loss": 1}]}'),
        ("history", '{"start": {}}'),
        ("history", '{"key_value_change": "far"}'),
        ("history", '{"best_step": 1' + "0" * 400 + "}"),
        ("seed", "many"),
    ],
)
def test_a_field_that_is_not_used_and_cannot_be_read_is_left_out_with_a_warning(
    told: Path, field: str, text: str
) -> None:
    edit(told, **{field: text})
    warnings: list[str] = []
    read = load_concept(told, warnings.append)
    assert getattr(read.info, field) == (None if field == "seed" else {})
    (warning,) = warnings
    assert warning.startswith(f"{told.name}: {field} in its metadata cannot be read (")
    assert warning.endswith(") and is left out; the concept is whole.")
    assert replace(read.info, **{field: getattr(full_info(), field)}) == full_info()


def test_history_of_a_later_version_is_kept(told: Path) -> None:
    edit(told, history='{"loss": [1], "colour": "red"}')
    assert read_quietly(told).history == {"loss": [1], "colour": "red"}


def test_least_says_only_what_is_needed_to_load_and_apply(told: Path) -> None:
    whole_tensors, _ = contents(told)
    save_concept(replace(small_concept(), info=full_info()), told, kept=Metadata.LEAST)
    tensors, metadata = contents(told)
    assert set(metadata) == {
        *("format", "format_version", "content_hash", "family", "class_noun", "placeholder"),
        *("prefix", "suffix", "concept_vectors", "steps", "base_hash"),
        *("prediction", "clip_layer", "model_patches", "clip_patches"),
    }
    assert tensors.keys() == whole_tensors.keys()
    assert all(torch.equal(tensors[name], whole_tensors[name]) for name in tensors)
    used = ("prediction", "clip_layer", "model_patches", "clip_patches")
    lost = {"seed": None, "settings": {}, "package_version": ""}
    assert read_quietly(told) == replace(small_info(), **lost, **{name: RUN[name] for name in used})


def test_no_picture_is_everything_else(told: Path) -> None:
    _, before = contents(told)
    save_concept(replace(small_concept(), info=full_info()), told, kept=Metadata.NO_PICTURE)
    _, metadata = contents(told)
    assert before.pop("modelspec.thumbnail") and metadata == before
    assert read_quietly(told) == replace(full_info(), thumbnail="")


def test_a_real_file_of_version_1_is_read() -> None:
    file = Path(__file__).parents[2] / "golden" / "concept_1.safetensors"
    concept = load_concept(file)
    settings = {"learning_rate": 6e-5, "resolution": 512}
    assert concept.info == ConceptInfo(
        *("sd1", "cat", "V*", 1, 1, 2, 5, 7, "0f" * 32, settings, "1.0.0", 1, "ab" * 32, "cd" * 32),
        *({"torch": "2.11"}, {"loss": [0.5, 0.25]}, "epsilon", "data:image/jpeg;base64,AAAA"),
    )
    ramp = torch.arange(6.0).view(2, 3)
    layer = "diffusion_model.middle_block.1.transformer_blocks.0.attn2"
    assert concept.deltas.keys() == {f"{layer}.to_k", f"{layer}.to_v"} and concept.tokens.keys() == {"clip_l"}
    assert torch.equal(concept.deltas[f"{layer}.to_k"], ramp) and torch.equal(concept.deltas[f"{layer}.to_v"], -ramp)
    assert torch.equal(concept.tokens["clip_l"], torch.arange(8.0).view(2, 4)) and concept.contexts is None


def as_version_1(path: Path, **changes: str | None) -> None:
    rewrite(
        path, {}, {"format_version": "1", "clip_layer": None, "model_patches": None, "clip_patches": None, **changes}
    )


def test_a_file_of_version_1_is_read_and_guarded_as_ever(told: Path) -> None:
    as_version_1(told)
    unknown = {"clip_layer": None, "model_patches": "", "clip_patches": ""}
    assert read_quietly(told) == replace(full_info(), format_version=1, **unknown)
    edit(told, **{"modelspec.title": "My cat"})
    assert "does not match its checksum" in refusal_of(told)


def test_a_concept_of_version_1_is_saved_in_the_version_of_today(told: Path) -> None:
    as_version_1(told)
    save_concept(load_concept(told), told)
    assert contents(told)[1]["format_version"] == "2"
    edit(told, **{"modelspec.title": "My cat"})
    assert read_quietly(told).class_noun == "tortoise plushy"


GRAPH = {
    "prompt": '{"1": {"class_type": "ICOTrainer", "inputs": {"class_noun": "Kätzchen \\u732b"}}}',
    "workflow": '{"a": "\\n"}',
}


def test_the_graph_is_written_and_read_as_it_is_and_nothing_rests_on_it(told: Path) -> None:
    _, without = contents(told)
    save_concept(replace(small_concept(), info=full_info(), graph=GRAPH), told)
    assert contents(told)[1] == without | GRAPH  # the checksum among them
    assert load_concept(told).graph == GRAPH
    save_concept(load_concept(told), told, kept=Metadata.NO_PICTURE)
    assert load_concept(told).graph == GRAPH and read_quietly(told) == replace(full_info(), thumbnail="")
    edit(told, prompt=None, workflow="{ no JSON")
    assert load_concept(told).graph == {"workflow": "{ no JSON"}
    assert read_quietly(told) == replace(full_info(), thumbnail="")


def test_least_leaves_the_graph_out(told: Path) -> None:
    save_concept(replace(small_concept(), info=full_info(), graph=GRAPH), told, kept=Metadata.LEAST)
    assert not contents(told)[1].keys() & GRAPH.keys()
    assert load_concept(told).graph == {}


def plain(info: ConceptInfo) -> ConceptInfo:
    return info


def hard_to_write(info: ConceptInfo) -> ConceptInfo:
    return replace(info, class_noun='a "quoted" \\ \n\t\x01\x7f übung \u2028 😀')


@pytest.mark.parametrize("changed", [plain, hard_to_write])
def test_the_same_concept_gives_the_same_bytes(path: Path, changed: Callable[[ConceptInfo], ConceptInfo]) -> None:
    concept = replace(small_concept(), info=changed(full_info()), graph=GRAPH)
    files = set()
    for number in range(4):
        file = path.with_name(f"{number}.safetensors")
        save_concept(concept, file)
        files.add(file.read_bytes())
        assert load_concept(file).info == concept.info
        assert load_file(file).keys() == contents(file)[0].keys()
    assert len(files) == 1
