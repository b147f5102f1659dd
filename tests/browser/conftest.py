"""A server with the checkpoints that templates name, all of them the small one, and a browser in front of it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_page import HOW, Canvas, chromium
from comfy_install import cache_folder
from server_files import draw_references, make_small_checkpoint, make_small_lora

from workbench.comfy_server import ComfyServer
from workbench.templates import SD15, SDXL


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium; where there is none the tests are left out, and say how they would not be.

    It ends with its module: while it lives an event loop runs in this process, and no test could start another.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip(f"LEFT OUT, playwright is not installed. {HOW}")
    path = chromium()
    if path is None:
        pytest.skip(f"LEFT OUT, there is no Chromium. {HOW}")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    base, comfyui = tmp_path_factory.mktemp("browser"), Path(os.environ["COMFYUI_PATH"])
    checkpoint = make_small_checkpoint(comfyui, Path(sys.executable), cache_folder())
    (base / "models" / "checkpoints").mkdir(parents=True)
    for name in (SD15["name"], SDXL["name"]):
        (base / "models" / "checkpoints" / name).symlink_to(checkpoint)
    make_small_lora(checkpoint, base / "models" / "loras" / "my_lora.safetensors")
    (base / "input" / "my_toy").mkdir(parents=True)
    names = draw_references(base / "input" / "my_toy")
    shutil.copy(base / "input" / "my_toy" / names[0], base / "input" / "example.png")
    with ComfyServer(comfyui, Path(sys.executable), base) as running:
        yield running


@pytest.fixture
def canvas(browser: Any, server: ComfyServer) -> Iterator[Canvas]:
    """The page with the canvas that most people have."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    yield Canvas(page, server)
    page.close()
