"""One real ComfyUI server for the end-to-end tests, with a small checkpoint and reference images."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_install import cache_folder
from server_files import draw_references, make_small_checkpoint

from workbench.comfy_server import ComfyServer


@pytest.fixture(scope="session")
def comfyui() -> Path:
    return Path(os.environ["COMFYUI_PATH"])


@pytest.fixture(scope="session")
def server(
    comfyui: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("comfyui")
    checkpoint = make_small_checkpoint(comfyui, Path(sys.executable), cache_folder())
    (base / "models" / "checkpoints").mkdir(parents=True)
    (base / "models" / "checkpoints" / checkpoint.name).symlink_to(checkpoint)
    (base / "input").mkdir()
    draw_references(base / "input")
    (base / "input" / "my_toy").mkdir()
    draw_references(base / "input" / "my_toy")
    (base / "extra" / "dci_concepts").mkdir(parents=True)
    paths = base / "extra.yaml"
    paths.write_text(f"elsewhere:\n  base_path: {base / 'extra'}\n  dci_concepts: dci_concepts\n")
    cpu = not pytestconfig.getoption("--gpu")
    arguments = ["--extra-model-paths-config", str(paths), *([] if cpu else ["--deterministic"])]
    with ComfyServer(comfyui, Path(sys.executable), base, arguments, cpu) as running:
        yield running


@pytest.fixture
def queue_is_empty(server: ComfyServer) -> Iterator[None]:
    yield
    queue = server.get("/queue")
    assert not queue["queue_running"] and not queue["queue_pending"]
