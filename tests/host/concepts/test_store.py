"""Folders and names of files below the host's model folder."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import folder_paths
import pytest
from comfy.cli_args import args
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.files import write_atomically
from comfyui_dci.nodes.host.concepts.store import (
    check_name,
    class_image_root,
    find_concept,
    folder_name,
    list_concepts,
    name_of,
    path_of,
    places_of,
    register_folder,
    roots_beside,
    save_under,
    training_root,
)

USUAL = "usual:\n  base_path: {0}\n  dci_concepts: usual\n"
DEFAULT = "big_disk:\n  base_path: {0}\n  is_default: true\n  dci_concepts: big\n  loras: loras\n"
TWO = "big_disk:\n  is_default: true\n  dci_concepts: |\n    {0}/one\n    {0}/two\n"


def write(path: Path, replace: bool) -> None:
    write_atomically(path, lambda part: part.write_text("tom"), replace)


def load_extra_path_config(config: Path) -> None:
    """Read a file as the host does at its start; by its path, for older hosts have a module "utils" before that package."""
    host = Path(folder_paths.__file__).parent
    runpy.run_path(str(host / "utils" / "extra_config.py"))["load_extra_path_config"](str(config))


def registered(folder: Path, monkeypatch: pytest.MonkeyPatch, *sections: str) -> list[str]:
    """Start as the host does: its own reading of the file first, the packs afterwards; return the folders' names."""
    config = folder / "extra.yaml"
    config.write_text("".join(section.format(folder) for section in sections) or "{}")
    monkeypatch.setattr(args, "extra_model_paths_config", [[str(config)]])
    load_extra_path_config(config)
    register_folder()
    register_folder()
    return [str(Path(path).relative_to(folder)) for path in folder_paths.get_folder_paths("dci_concepts")]


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ([], ["models/dci_concepts"]),
        ([USUAL], ["models/dci_concepts", "usual"]),
        ([DEFAULT], ["big", "models/dci_concepts"]),
        ([USUAL, DEFAULT], ["big", "models/dci_concepts", "usual"]),
        ([DEFAULT, USUAL], ["big", "models/dci_concepts", "usual"]),
        ([TWO, USUAL], ["two", "one", "models/dci_concepts", "usual"]),
        (
            ["main:\n  is_default: true\n  dci_concepts: {0}/models/dci_concepts\n", USUAL],
            ["models/dci_concepts", "usual"],
        ),
    ],
)
def test_what_is_saved_goes_where_the_user_has_set_the_default(
    sections: list[str], expected: list[str], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registered(models.parent, monkeypatch, *sections) == expected
    first = models.parent / expected[0]
    assert path_of("tom") == first / "tom.safetensors"
    assert (training_root(), class_image_root()) == (first / "training", first / "class_images")


def test_a_file_that_the_host_cannot_read_either_costs_nothing(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = models.parent / "broken.yaml"
    broken.write_text("a: [")
    monkeypatch.setattr(args, "extra_model_paths_config", [[str(broken)], [str(models / "missing.yaml")]])
    register_folder()
    assert folder_paths.get_folder_paths("dci_concepts") == [str(models / "dci_concepts")]
    assert "broken.yaml cannot be read" in caplog.text


def test_runs_of_before_are_found_where_they_are(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(models.parent, monkeypatch, DEFAULT)
    old, new = models / "dci_concepts" / "training", models.parent / "big" / "training"
    assert places_of(training_root(), "car-0") == [new / "car-0"] and roots_beside(training_root()) == [new]
    (old / "car-0").mkdir(parents=True)
    assert places_of(training_root(), "car-0") == [old / "car-0"] and roots_beside(training_root()) == [new, old]
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # on a disk that is only read
    assert places_of(training_root(), "car-0") == [new / "car-0", old / "car-0"]
    monkeypatch.undo()
    elsewhere = models.parent / "elsewhere" / "training"
    assert places_of(elsewhere, "car-0") == [elsewhere / "car-0"]


def test_a_name_that_another_concept_folder_has_is_taken(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models / "dci_concepts").mkdir(parents=True, exist_ok=True)
    (models / "dci_concepts" / "tom.safetensors").write_text("of before")
    registered(models.parent, monkeypatch, DEFAULT)
    assert save_under("tom", False, write)[0] == models.parent / "big" / "tom_2.safetensors"
    assert save_under("tom", True, write)[0] == models.parent / "big" / "tom.safetensors"


def test_a_folder_name_is_one_any_system_allows() -> None:
    assert folder_name("Tortoise  Plüshy/..", "0123456789abcdef") == "tortoise-pl-shy-0123456789ab"
    assert folder_name("猫", "0123456789abcdef") == "concept-0123456789ab"


def test_a_subfolder_may_be_a_link_to_another_disk(models: Path) -> None:
    register_folder()
    folder, disk = models / "dci_concepts", models.parent / "disk"
    disk.mkdir()
    (folder / "pets").symlink_to(disk)
    path, _ = save_under("pets/tom", False, write)
    assert (disk / "tom.safetensors").read_text() == "tom"
    assert name_of(path) == "pets/tom.safetensors" and list_concepts() == ["pets/tom.safetensors"]
    assert find_concept("pets/tom.safetensors") == path
    assert name_of(save_under("pets/tom", False, write)[0]) == "pets/tom_2.safetensors"
    for name in ("pets/../x", "../disk/x", str(disk / "x")):
        with pytest.raises(UserInputError, match="cannot be a file"):
            path_of(name)


def test_the_models_folder_itself_may_be_a_link(models: Path) -> None:
    (models.parent / "disk").mkdir()
    models.symlink_to(models.parent / "disk")
    register_folder()
    path, _ = save_under("tom", False, write)
    assert (
        name_of(path) == "tom.safetensors" and (models.parent / "disk" / "dci_concepts" / "tom.safetensors").is_file()
    )


@pytest.mark.parametrize(
    ("name", "given"), [("猫" * 80, 240), ("pets/" + "猫" * 80, 240), ("猫" * 90 + "/tom", 270), ("é" * 120, 240)]
)
def test_names_are_measured_in_bytes(name: str, given: int) -> None:
    with pytest.raises(UserInputError, match=f"too long for a file: {given} bytes, and 238 are allowed.*Shorten it"):
        check_name(name)


@pytest.mark.parametrize("name", ["n" * 201, "pets/" * 39 + "n" * 6])
def test_a_name_with_too_many_letters_is_told_so(name: str) -> None:
    with pytest.raises(UserInputError, match="has 201 characters, and 200 are allowed. Shorten it"):
        check_name(name)


@pytest.mark.parametrize("name", ["猫" * 79, "猫" * 85 + "/tom", "n" * 200])
def test_the_longest_names_can_be_saved_and_numbered(name: str, models: Path) -> None:
    register_folder()
    for _ in range(11):
        path, _ = save_under(name, False, write)
    assert path.name.endswith("_11.safetensors") and len(list_concepts()) == 11


def test_a_name_that_another_program_takes_meanwhile_gets_the_next_number(models: Path) -> None:
    register_folder()
    asked: list[tuple[str, bool]] = []

    def save(path: Path, replace: bool) -> str:
        asked.append((path.name, replace))
        if len(asked) < 3:
            raise FileExistsError
        return "saved"

    path, result = save_under("tom", False, save)
    names = [f"tom{number}.safetensors" for number in ("", "_2", "_3")]
    assert asked == [(name, False) for name in names] and (path.name, result) == (names[-1], "saved")


def test_a_file_that_stands_where_a_subfolder_should_be_is_no_reason_to_count_on(models: Path) -> None:
    register_folder()
    (models / "dci_concepts" / "pets").write_text("a file")

    def save(path: Path, replace: bool) -> Any:
        return path.parent.mkdir(parents=True, exist_ok=True)

    with pytest.raises(FileExistsError):
        save_under("pets/tom", False, save)
