"""Reach ComfyUI's own model classes from a script: the demo model is trained in the very modules that later run it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HOST_VARIABLE = "COMFYUI_PATH"


def import_host() -> None:
    """Make `comfy` importable and, without a GPU, tell it to stay on the CPU. Call before any comfy import.

    Looks at the environment variable COMFYUI_PATH, then at the folders above this one (a pack lives in
    ComfyUI/custom_nodes), then at ~/comfy/ComfyUI and ~/ComfyUI.

    Raises:
        FileNotFoundError: no ComfyUI was found.
    """
    here = Path(__file__).resolve()
    candidates = (
        [Path(os.environ[HOST_VARIABLE])]
        if os.environ.get(HOST_VARIABLE)
        else [*here.parents, Path.home() / "comfy" / "ComfyUI", Path.home() / "ComfyUI"]
    )
    for candidate in candidates:
        if (candidate / "comfy" / "supported_models.py").is_file():
            if str(candidate) not in sys.path:
                sys.path.insert(0, str(candidate))
            break
    else:
        raise FileNotFoundError(f"ComfyUI was not found; set {HOST_VARIABLE} to the folder that holds its main.py.")
    import comfy.cli_args

    if not torch.cuda.is_available():
        comfy.cli_args.args.cpu = True


def fill_parameters(module: torch.nn.Module) -> None:
    """Give every layer torch's default initial weights; the host creates its layers uninitialised."""
    resets: dict[type[torch.nn.Module], Callable[[Any], None]] = {
        torch.nn.Linear: torch.nn.Linear.reset_parameters,
        torch.nn.Conv2d: torch.nn.Conv2d.reset_parameters,
        torch.nn.GroupNorm: torch.nn.GroupNorm.reset_parameters,
        torch.nn.LayerNorm: torch.nn.LayerNorm.reset_parameters,
        torch.nn.Embedding: torch.nn.Embedding.reset_parameters,
    }
    for layer in module.modules():
        for kind, reset in resets.items():
            if isinstance(layer, kind):
                reset(layer)
