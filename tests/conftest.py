"""Load the pack as ComfyUI does, and ComfyUI itself where a test needs it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACK = "comfyui_dci"
SCRIPT_PACKAGES = ("demo_world", "study")
CORE_ONLY = "--no-host"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(CORE_ONLY, action="store_true", help="run only the tests that need no ComfyUI")


def pytest_configure(config: pytest.Config) -> None:
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    sys.path.append(str(ROOT / "tests" / "support"))
    if not config.getoption(CORE_ONLY):
        _put_comfyui_on_path()
    _load(PACK, ROOT)
    for name in SCRIPT_PACKAGES:
        _load(name, ROOT / name)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    needs_host = collection_path.name in ("host", "nodes", "e2e") and collection_path.parent == ROOT / "tests"
    return True if needs_host and config.getoption(CORE_ONLY) else None


def _put_comfyui_on_path() -> None:
    folder = os.environ.get("COMFYUI_PATH")
    if not folder:
        raise pytest.UsageError("Set COMFYUI_PATH to a ComfyUI folder, or run only the core with --no-host.")
    sys.path.insert(0, folder)
    sys.path[1:1] = [str(ROOT / "tests" / "host"), str(ROOT / "tests" / "e2e")]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import torch

    torch.set_num_threads(1)  # the models are tiny: more threads would only wait for each other


def _load(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
