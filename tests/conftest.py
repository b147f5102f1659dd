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
ON_GPU = "--gpu"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(CORE_ONLY, action="store_true", help="run only the tests that need no ComfyUI")
    parser.addoption(ON_GPU, action="store_true", help="let ComfyUI compute on the GPU; without it all is on the CPU")


def pytest_configure(config: pytest.Config) -> None:
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    sys.path.append(str(ROOT / "tests" / "support"))
    if not config.getoption(CORE_ONLY):
        _put_comfyui_on_path(cpu=not config.getoption(ON_GPU))
    _load(PACK, ROOT)
    for name in SCRIPT_PACKAGES:
        _load(name, ROOT / name)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    needs_host = (
        collection_path.name in ("host", "nodes", "e2e", "study", "benchmarks", "demo_world")
        and collection_path.parent == ROOT / "tests"
    )
    return True if needs_host and config.getoption(CORE_ONLY) else None


def _put_comfyui_on_path(cpu: bool) -> None:
    folder = os.environ.get("COMFYUI_PATH")
    if not folder:
        raise pytest.UsageError("Set COMFYUI_PATH to a ComfyUI folder, or run only the core with --no-host.")
    sys.path.insert(0, folder)
    sys.path[1:1] = [str(ROOT / "tests" / "host"), str(ROOT / "tests" / "e2e")]
    import comfy.cli_args

    comfy.cli_args.args.cpu = cpu
    import torch

    torch.set_num_threads(1)  # the models are tiny: more threads would only wait for each other
    if not cpu:
        _compute_as_on_the_cpu()


def _compute_as_on_the_cpu() -> None:
    """Let a GPU give the same bits for the same work, and float32 its whole precision."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def _load(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
