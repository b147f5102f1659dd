"""The pack and the ComfyUI it runs in, for all that is started outside ComfyUI."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

NAME = "comfyui_dci"
ROOT = Path(__file__).resolve().parents[1]
HOST_VARIABLE = "COMFYUI_PATH"


def load_pack(cpu: bool = False) -> ModuleType:
    """Make ComfyUI and this pack importable; a second call returns the same module.

    Args:
        cpu: compute on the CPU even where there is a GPU.

    Raises:
        SystemExit: COMFYUI_PATH does not name a ComfyUI folder.
    """
    import_host(cpu)
    return register_pack()


def register_pack() -> ModuleType:
    """Make this checkout the package ``comfyui_dci``, as which its code is imported; ComfyUI is not needed for it."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[NAME] = module
        spec.loader.exec_module(module)
    return sys.modules[NAME]


def import_host(cpu: bool = False) -> None:
    """Put ComfyUI first on the import path, for its ``nodes`` and ours have one name, and tell it where to compute.

    The host looks at that when its own modules are imported, so call this before. Without a GPU it computes on the CPU.

    Args:
        cpu: compute on the CPU even where there is a GPU.

    Raises:
        SystemExit: COMFYUI_PATH does not name a ComfyUI folder.
    """
    folder = os.environ.get(HOST_VARIABLE, "")
    if not (Path(folder) / "comfy" / "supported_models.py").is_file():
        raise SystemExit(
            f"{HOST_VARIABLE} is {folder or 'not set'}. Set it to the ComfyUI folder that holds main.py, and use a Python that can run it."
        )
    sys.path[:] = [folder, *(entry for entry in sys.path if entry != folder)]
    import comfy.cli_args
    import torch

    if cpu or not torch.cuda.is_available():
        comfy.cli_args.args.cpu = True
