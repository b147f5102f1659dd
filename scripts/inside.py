"""Start a script anew in the environment that ComfyUI runs in, where the checkout's packages can be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from comfy_install import ROOT
from environment import environment_for

MARK = "COMFYUI_DCI_INSIDE"


def is_inside() -> bool:
    """Tell whether this process was started by ``start_inside``."""
    return MARK in os.environ


def start_inside(comfyui: Path) -> int:
    """Start the running script with its arguments; returns its exit status.

    Args:
        comfyui: whose environment it is.
    """
    path = os.pathsep.join(entry for entry in (str(ROOT), os.environ.get("PYTHONPATH")) if entry)
    command = [str(environment_for(comfyui)), *sys.argv]
    return subprocess.run(command, env={**os.environ, MARK: "1", "PYTHONPATH": path}, check=False).returncode
