"""Load Image Folder: lists for the graph, and a text on the node on what was found and left out."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest
import torch
from comfyui_dci.nodes.host import node_text
from comfyui_dci.nodes.image_folder import LoadImageFolder
from node_runs import run
from PIL import Image


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the host's input folder."""
    folder = tmp_path / "input" / "pets"
    folder.mkdir(parents=True)
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    return folder


def test_the_node_says_what_it_found_and_what_it_left_out(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(node_text, "send_text", lambda text, node: sent.append((text, node)))
    Image.new("RGB", (8, 8), (9, 9, 9)).save(pets / "a.JPG")
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(pets / "b.png")
    Image.new("L", (8, 8), 255).save(pets / "a_Mask.PNG")
    (pets / "a.caption").write_text("on grass")
    (pets / "notes.md").touch()
    clone = LoadImageFolder.PREPARE_CLASS_CLONE(None)
    clone.hidden.unique_id = "7"
    images, masks, captions = clone.EXECUTE_NORMALIZED(folder="pets").result
    assert [tuple(image.shape) for image in images] == [(1, 8, 8, 3)] * 2 and (images[1] == 1.0).all()
    assert [mask.mean().item() for mask in masks] == [1.0, 0.0] and captions == ["on grass", ""]
    assert sent == [
        (
            "4 files: 2 images, 1 mask, 1 caption; not read: notes.md\n"
            "b.png: laid on white where transparent; the transparency is the mask.",
            "7",
        )
    ]


def test_without_a_node_the_lists_are_the_same(pets: Path) -> None:
    Image.new("RGB", (8, 8), (9, 9, 9)).save(pets / "a.tif")
    images, masks, captions = run(LoadImageFolder, folder="pets").result
    assert torch.equal(masks[0], torch.ones(1, 8, 8)) and captions == [""] and len(images) == 1


def test_the_node_runs_again_when_something_changes_that_is_read(pets: Path) -> None:
    Image.new("RGB", (8, 8)).save(pets / "a.png")
    first = LoadImageFolder.fingerprint_inputs(folder="pets")
    (pets / "notes.md").touch()
    (pets / "._a.png").touch()
    assert LoadImageFolder.fingerprint_inputs(folder="pets") == first
    (pets / "a.Caption").write_text("on grass")
    assert LoadImageFolder.fingerprint_inputs(folder="pets") != first


def test_the_node_shows_what_it_found_small(pets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    Image.new("RGB", (1024, 512), (9, 9, 9)).save(pets / "a.png")
    Image.new("RGB", (8, 16), (9, 9, 9)).save(pets / "b.png")
    shown = run(LoadImageFolder, folder="pets").ui.as_dict()["images"]
    sizes = [Image.open(tmp_path / entry["filename"]).size for entry in shown]
    assert sizes == [(256, 128), (8, 16)]
