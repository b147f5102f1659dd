"""The script of docs/use trains from the command line, importing the pack as a user's own script would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfy_install import cache_folder
from comfyui_dci.dci_core.concept.file import load_concept
from server_files import REFERENCES, draw_references, make_small_checkpoint

from workbench.pack import HOST_VARIABLE, ROOT

pytestmark = pytest.mark.sweep

SCRIPT = ROOT / "docs" / "use" / "train_without_the_node.py"


def run_script(folder: Path, *arguments: str) -> str:
    """Run the script where ComfyUI and a folder of custom nodes are on the path; return what it logs."""
    custom_nodes = folder / "custom_nodes"
    if not custom_nodes.exists():
        custom_nodes.mkdir()
        (custom_nodes / "comfyui_dci").symlink_to(ROOT, target_is_directory=True)
    comfyui = os.environ[HOST_VARIABLE]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([comfyui, str(folder)]), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Two steps on the small checkpoint, from captioned photographs."""
    checkpoint = make_small_checkpoint(Path(os.environ[HOST_VARIABLE]), Path(sys.executable), cache_folder())
    (tmp_path / "photos").mkdir()
    for name in draw_references(tmp_path / "photos"):
        (tmp_path / "photos" / name).with_suffix(".txt").write_text("on a table")
    return [str(checkpoint), "photos", "ball", "ball.safetensors", "--steps", "2", "--resolution", "64"]


def test_a_users_script_trains_and_writes_a_concept_that_loads(tmp_path: Path, arguments: list[str]) -> None:
    log = run_script(tmp_path, *arguments)
    assert "step 2, loss " in log
    concept = load_concept(tmp_path / "ball.safetensors")
    assert (concept.info.family, concept.info.class_noun, concept.info.steps) == ("sd1", "ball", 2)
    assert concept.info.settings["captions"] == concept.info.settings["images"] == REFERENCES
    assert concept.info.settings["resolution"] == 64
    (run,) = (tmp_path / "training").iterdir()
    finished = load_concept(run / "finished.safetensors")
    assert all(torch.equal(finished.tokens[name], vectors) for name, vectors in concept.tokens.items())
