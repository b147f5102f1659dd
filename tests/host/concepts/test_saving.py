"""What can be wrong with a place is found before; what goes wrong at the end says why, and what is kept."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import folder_paths
import pytest
from comfyui_dci.dci_core import files
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.concepts.saving import LEAST_FREE_BYTES, check_place, kept_training, save_as
from comfyui_dci.nodes.host.concepts.store import folder_name, register_folder, training_root
from concept_files import small_info
from safetensors import SafetensorError

KEY = "0123456789ab" * 5
KEPT = "The finished training is kept as training/tortoise-plushy-0123456789ab/finished.safetensors"
usage = namedtuple("usage", "total used free")


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: usage(10**12, 10**12 - size, size))


def keep_training() -> None:
    file = training_root() / folder_name("tortoise plushy", KEY) / "finished.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()


def test_a_place_is_checked_before_anything_runs_and_nothing_is_left_there(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_folder()
    check_place("pets/tom")
    (models / "dci_concepts" / "dogs").write_text("a file")
    with pytest.raises(UserInputError, match="The concept cannot be written to .*dogs: Not a directory. Make that"):
        check_place("dogs/rex")
    free(monkeypatch, LEAST_FREE_BYTES - 1)
    with pytest.raises(UserInputError, match=r"The concept may need 40 MB in .*pets, but 40 MB are free. Free space"):
        check_place("pets/tom")
    assert [file.name for file in (models / "dci_concepts").iterdir()] == ["dogs"]


def test_a_path_that_is_too_long_for_this_system_is_found_before(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = models / "/".join(["n" * 200] * 20)
    monkeypatch.setattr(folder_paths, "models_dir", str(deep))
    register_folder()
    with pytest.raises(UserInputError, match="The name '.*/tom' is too long for .*: File name too long. Shorten it"):
        check_place("m" * 190 + "/tom")


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/part.tmp"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "File name too long"),
        (SafetensorError("I/O error: No space left (os error 28)"), r"I/O error: No space left \(os error 28\)"),
    ],
)
def test_an_error_at_the_end_names_path_sizes_and_the_training_that_is_kept(
    error: Exception, reason: str, kept: bool, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_folder()
    free(monkeypatch, 76_500_000)
    if kept:
        keep_training()

    def save(path: Path, replace: bool) -> None:
        raise error

    with pytest.raises(UserInputError) as refusal:
        save_as("tom", False, replace(small_info(), training_key=KEY), 76_000_000, save)
    told = str(refusal.value)
    path = models / "dci_concepts" / "tom.safetensors"
    assert told.startswith(
        f"The concept could not be written to {path}: {reason.replace(chr(92), '')}. It needs up to 76 MB"
    )
    assert "76 MB are free there" in told and "and queue again." in told
    assert (KEPT in told) is kept


def test_a_training_that_is_kept_on_a_disk_that_is_only_read_is_named(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_folder()
    keep_training()
    paths = [str(models / "own"), *folder_paths.get_folder_paths("dci_concepts")]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dci_concepts", (paths, {".safetensors"}))
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    assert KEPT in kept_training(replace(small_info(), training_key=KEY))


def test_too_little_room_for_this_concept_says_what_is_kept_before_it_writes(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_folder()
    keep_training()
    free(monkeypatch, 50_000_000)
    written: list[Path] = []
    with pytest.raises(UserInputError, match=f"may need 76 MB in .*, but 50 MB are free.*{KEPT}"):
        save_as("tom", False, replace(small_info(), training_key=KEY), 76_000_000, lambda path, _: written.append(path))
    assert written == []
