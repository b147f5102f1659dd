"""Check the types of all Python code but the tests, with mypy.

The pack is imported as comfyui_dci, which a checkout is not called. So mypy is run in a temporary folder that holds a link of
that name; the settings are in pyproject.toml. Further arguments go to mypy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from comfy_install import ROOT

PACK = "comfyui_dci"
PACKAGES = (f"{PACK}.dci_core", f"{PACK}.nodes", "benchmarks", "demo_world", "study", "workbench")


def main(arguments: list[str]) -> int:
    """Return mypy's exit status, 0 when it found nothing."""
    scripts = [file.stem for file in sorted((ROOT / "scripts").glob("*.py"))]
    chosen = [word for name in PACKAGES for word in ("-p", name)] + [word for name in scripts for word in ("-m", name)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            (Path(folder) / PACK).symlink_to(ROOT, target_is_directory=True)
        except OSError as error:  # Windows lets only some users make links
            print(f"Types cannot be checked here, for a link to the checkout cannot be made: {error}")
            return 1
        settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", os.devnull]
        command = [sys.executable, "-m", "mypy", *settings, *arguments, *chosen]
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
