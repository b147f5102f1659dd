"""Reach the pack's nodes and ComfyUI from a script, as ComfyUI itself would load them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from demo_world.host import import_host

ROOT = Path(__file__).resolve().parents[1]
NAME = "comfyui_dci"


def load_pack() -> ModuleType:
    """Import this pack under one fixed name, after ComfyUI; a second call returns the same module."""
    if NAME not in sys.modules:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT] + [str(ROOT)]
        import_host()  # its folder must come before ours, for both hold a `nodes`
        spec = importlib.util.spec_from_file_location(
            NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[NAME] = module
        spec.loader.exec_module(module)
    return sys.modules[NAME]
