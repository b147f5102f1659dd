"""Saving, loading and tidying as nodes: what the user is told, and when."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

import execution
import folder_paths
import nodes as host_nodes
import pytest
import torch
from comfyui_dci.dci_core import tensor_file
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes import concepts as concept_nodes
from comfyui_dci.nodes import tidy_trainings
from comfyui_dci.nodes.concepts import LoadConcept, SaveConcept
from comfyui_dci.nodes.tidy_trainings import TidyTrainings
from concept_files import small_concept
from node_runs import run, trained


def test_savers_of_one_name_each_report_a_file_of_their_own(concepts: Path) -> None:
    """Two servers that share a models folder do what these threads do."""
    tries, savers = 8, 3
    told: dict[int, list[str]] = {}
    together = threading.Barrier(savers)

    def save(number: int) -> None:
        names = []
        for _ in range(tries):
            together.wait(timeout=60)
            names.append(run(SaveConcept, concept=small_concept(), name="tom")[1])
        told[number] = names

    threads = [threading.Thread(target=save, args=(number,)) for number in range(savers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [name for names in told.values() for name in names]
    assert len(set(every)) == tries * savers
    assert sorted(every) == sorted(file.name for file in concepts.iterdir())
    assert all(load_concept(concepts / name).info.steps == 123 for name in every)


def test_what_is_wrong_with_a_name_or_its_folder_is_said_before_anything_runs(
    concepts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (concepts / "dogs").write_text("a file")
    refused = {"": "cannot be a file", "猫" * 80: "240 bytes, and 238 are allowed", "dogs/rex": "Not a directory"}
    for name, reason in refused.items():
        assert reason in str(SaveConcept.validate_inputs(name=name))
    assert SaveConcept.validate_inputs(name="cats/tom") is True
    touch = Path.touch

    def read_only(path: Path, *given: Any, **more: Any) -> None:
        if path.is_relative_to(concepts):
            raise OSError(errno.EROFS, "Read-only file system")
        touch(path, *given, **more)

    monkeypatch.setattr(Path, "touch", read_only)
    for name in ("tom", None):
        assert f"{concepts}: Read-only file system. Make that folder writable" in str(
            SaveConcept.validate_inputs(name=name)
        )


def test_a_full_disk_at_the_end_says_where_the_training_is_kept(
    concepts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (concept, *_) = trained()

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(tensor_file, "save_file", full)
        with pytest.raises(UserInputError) as refusal:
            run(SaveConcept, concept=concept, name="tom")
    told = str(refusal.value)
    assert told.startswith(
        f"The concept could not be written to {concepts / 'tom.safetensors'}: No space left on device."
    )
    kept = told.partition("The finished training is kept as ")[2].partition(":")[0]
    (loaded,) = run(LoadConcept, name=kept).result
    assert loaded.info == concept.info and [file.name for file in concepts.iterdir()] == ["training"]
    assert run(SaveConcept, concept=concept, name="tom")[1] == "tom.safetensors"


def test_a_file_name_that_is_wired_is_what_is_loaded(concepts: Path) -> None:
    concept = small_concept()
    name = run(SaveConcept, concept=concept, name="cats/tom")[1]
    for given in ({}, {"name": ""}, {"name": None}, {"name": "gone.safetensors"}):
        assert run(LoadConcept, **given, file_name=name)[0].info.class_noun == concept.info.class_noun
    assert LoadConcept.fingerprint_inputs(name=name) == LoadConcept.fingerprint_inputs(file_name=name)
    with pytest.raises(UserInputError, match="There is no concept 'gone' in models/dci_concepts. Choose one"):
        run(LoadConcept, name=name, file_name="gone")


def host_says(graph: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the host's own validation of a queued graph says; "" when it takes it."""
    for kind in (SaveConcept, LoadConcept):
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, kind.__name__, kind)
    *_, errors = asyncio.run(execution.validate_prompt("id", graph, None))
    return str(errors) if errors else ""


@pytest.mark.parametrize(
    ("inputs", "refusal"),
    [
        ({"file_name": ["1", 1]}, ""),
        ({"name": "", "file_name": ["1", 1]}, ""),
        ({"name": "gone.safetensors", "file_name": ["1", 1]}, ""),
        ({}, "No concept is chosen. Choose one of the list, or connect file_name of Save Concept."),
        ({"name": ""}, "No concept is chosen."),
        ({"name": "gone.safetensors"}, "There is no concept 'gone.safetensors' in models/dci_concepts. Choose one"),
        ({"name": "kept.safetensors"}, ""),
        ({"name": "toy · 5 steps · 2026-01-01 00:00 · kept.safetensors"}, ""),
    ],
)
def test_the_host_takes_a_wired_file_name_without_a_choice_and_refuses_a_file_that_is_not_there(
    inputs: dict[str, Any], refusal: str, concepts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    concept = small_concept()
    run(SaveConcept, concept=concept, name="kept")
    saving = {"name": "mine", "precision": "float16", "overwrite": False}
    graph = {
        "2": {"class_type": "LoadConcept", "inputs": inputs},
        "3": {"class_type": "SaveConcept", "inputs": {**saving, "concept": ["2", 0]}},
    }
    if "file_name" in inputs:
        graph["0"] = {"class_type": "LoadConcept", "inputs": {"name": "kept.safetensors"}}
        graph["1"] = {"class_type": "SaveConcept", "inputs": {**saving, "concept": ["0", 0]}}
    said = host_says(graph, monkeypatch)
    assert refusal in said and bool(refusal) == bool(said)


def test_a_run_of_before_is_returned_where_it_is_when_another_folder_has_become_the_default(
    concepts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    _, (concept, *_) = trained()
    default = concepts.parent / "big"
    paths = ([str(default), str(concepts)], {".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dci_concepts", paths)
    torch.manual_seed(0)
    _, (again, *_) = trained()
    assert again.info == concept.info and not default.exists()
    assert run(SaveConcept, concept=concept, name="tom")[1] == "tom.safetensors"
    assert [file.name for file in default.iterdir()] == ["tom.safetensors"]


def test_runs_of_training_are_offered_by_subject_and_tidied_with_sizes(concepts: Path) -> None:
    trained(checkpoint_every=1)
    offered = LoadConcept.define_schema().inputs[0].options
    finished = next(choice for choice in offered if choice.endswith("/finished.safetensors"))
    assert finished.startswith("cat · 2 steps · 20") and len(offered) >= 2
    assert LoadConcept.validate_inputs(name=finished) is True
    assert run(LoadConcept, name=finished)[0].info.steps == 2
    run(SaveConcept, concept=small_concept(), name="zoo")
    assert LoadConcept.define_schema().inputs[0].options[0] == "zoo.safetensors"
    shown = run(TidyTrainings)
    assert shown[0].startswith("1 run, ") and "cat · 2 steps · 20" in shown[0] and shown.ui is not None
    assert "freed: all files of no runs" in run(TidyTrainings, action="delete runs")[0]
    assert " MB freed: all files of 1 run" in run(TidyTrainings, action="delete runs", older_than_days=0)[0]
    assert LoadConcept.define_schema().inputs[0].options == ["zoo.safetensors"]
    first, second = (TidyTrainings.fingerprint_inputs(action="show") for _ in range(2))
    assert (first,) != (second,)  # as the host compares them, to which one and the same nan is equal


def test_saving_and_tidying_say_on_the_node_what_they_did(concepts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser shows an output's text on nodes of its own only."""
    told: list[str] = []
    for module in (concept_nodes, tidy_trainings):
        monkeypatch.setattr(module, "text_of_node", lambda node: told.append)
    saved, report = run(SaveConcept, concept=small_concept(), name="tom"), run(TidyTrainings)
    assert told == [saved.ui.as_dict()["text"][0], report[0]] and told[0].startswith("saved tom.safetensors")
