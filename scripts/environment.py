"""Make the Python environment that ComfyUI, the pack and its tests run in, once, outside the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from comfy_install import ROOT, cache_folder

TORCH = ROOT / "scripts" / "requirements-torch.txt"
DEVELOPMENT = ROOT / "scripts" / "requirements-dev.txt"
COMPLETE = "complete"


def environment_for(comfyui: Path | None, development: bool = True) -> Path:
    """Return the Python of an environment with everything installed, making it on first use.

    Environments are kept in the cache folder under a hash of their requirement files, so that a second run,
    a fresh clone or a continuous-integration run finds them again.

    Args:
        comfyui: its own requirements are installed too; None leaves them out.
        development: also install the test tools.
    """
    files = [TORCH, ROOT / "requirements.txt"]
    files += [DEVELOPMENT] if development else []
    files += [comfyui / "requirements.txt"] if comfyui else []
    content = b"".join(file.read_bytes() for file in files) + sys.version.encode()
    folder = cache_folder() / f"env-{hashlib.sha256(content).hexdigest()[:12]}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / COMPLETE).is_file():
        return python
    print(f"Installing the environment into {folder} (about 5.5 GB, once) …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    for file in files:
        print(f"  {file.name if file.parent != comfyui else 'ComfyUI requirements.txt'}", flush=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", file]
        subprocess.run([str(part) for part in install], check=True)
    (folder / COMPLETE).touch()
    return python
