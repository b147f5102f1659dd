"""Run every check of the project on the real ComfyUI, setting up what is missing.

python scripts/test.py             everything: lint, types, unit tests, host tests, end-to-end tests
python scripts/test.py --no-host   without ComfyUI: lint, types and the tests of dci_core
Further arguments go to pytest. COMFYUI_PATH chooses the ComfyUI.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from comfy_install import ROOT, get_comfyui, version_of
from emoji_font import ensure_emoji_font
from environment import environment_for


def main(arguments: list[str]) -> int:
    """Return the exit status: 0 when every check passed."""
    core_only = "--no-host" in arguments
    comfyui = None if core_only else get_comfyui()
    python = environment_for(comfyui)
    environment = dict(os.environ)
    if comfyui is not None:
        ensure_emoji_font()
        print(f"ComfyUI {version_of(comfyui)} in {comfyui}", flush=True)
        environment["COMFYUI_PATH"] = str(comfyui)
    tools = python.parent
    checks = [
        [tools / "ruff", "check", "--no-cache", "."],
        [tools / "ruff", "format", "--no-cache", "--check", "."],
        [tools / "mypy", "--cache-dir", os.devnull],
        [tools / "pytest", "-q", *arguments],
    ]
    status = 0
    for check in checks:
        name = Path(check[0]).name
        print(f"\n== {name}", flush=True)
        if subprocess.run([str(part) for part in check], cwd=ROOT, env=environment, check=False).returncode != 0:
            print(f"{name} found something to mend.", flush=True)
            status = 1
    if core_only:
        print(
            "\nLeft out (--no-host): everything that needs ComfyUI: tests/host, tests/nodes and tests/e2e.", flush=True
        )
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
