"""Find ComfyUI on this machine, or get it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
PINNED_RELEASE = "v0.29.0"


def cache_folder() -> Path:
    """Return the folder for everything that is made once and kept: environments, ComfyUI, checkpoints."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "comfyui-dci"


def is_comfyui(folder: Path) -> bool:
    """Tell whether a folder holds ComfyUI."""
    return (folder / "main.py").is_file() and (folder / "comfy" / "samplers.py").is_file()


def find_comfyui() -> Path | None:
    """Return ComfyUI's folder: COMFYUI_PATH, the one whose custom_nodes we are in, comfy-cli's, or an earlier clone."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        folder = Path(named).expanduser().resolve()
        if not is_comfyui(folder):
            raise SystemExit(f"COMFYUI_PATH is {named}, but there is no ComfyUI. Correct it, or unset it.")
        return folder
    candidates = [Path.home() / "comfy" / "ComfyUI", cache_folder() / f"ComfyUI-{PINNED_RELEASE}"]
    if ROOT.parent.name == "custom_nodes":
        candidates.insert(0, ROOT.parent.parent)
    return next((folder for folder in candidates if is_comfyui(folder)), None)


def get_comfyui() -> Path:
    """Return ComfyUI's folder, cloning the pinned release where there is none.

    Raises:
        SystemExit: there is none and it cannot be cloned.
    """
    found = find_comfyui()
    if found is not None:
        return found
    target = cache_folder() / f"ComfyUI-{PINNED_RELEASE}"
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"Getting ComfyUI {PINNED_RELEASE} …", flush=True)
    clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", PINNED_RELEASE, REPOSITORY, str(target)]
    if subprocess.run(clone, check=False).returncode != 0 or not is_comfyui(target):
        raise SystemExit(
            "ComfyUI was not found and could not be cloned. Set COMFYUI_PATH to your ComfyUI folder, or connect to the internet."
        )
    return target


def version_of(folder: Path) -> str:
    """Return ComfyUI's version, "unknown" where it does not say."""
    file = folder / "comfyui_version.py"
    match = re.search(r'__version__ = "(.+?)"', file.read_text()) if file.is_file() else None
    return match.group(1) if match else "unknown"
