"""What the registry's archive holds: the tracked files that .comfyignore leaves, as comfy-cli packs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pathspec

ROOT = Path(__file__).resolve().parents[2]


def tracked_files() -> list[str]:
    """Return the tracked files of this checkout; without git, all that .gitignore leaves."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, encoding="utf-8", check=False
    )
    if listed.returncode == 0:
        return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())
    ignored = rules(".gitignore")
    files = (file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*") if file.is_file())
    return sorted(name for name in files if not name.startswith(".git/") and not ignored.match_file(name))


def shipped_files() -> list[str]:
    """Return the files of the archive, by their path from the root."""
    ignored = rules(".comfyignore")
    return [name for name in tracked_files() if not ignored.match_file(name)]


def rules(name: str) -> pathspec.PathSpec:
    """Return the patterns of an ignore file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return pathspec.PathSpec.from_lines("gitwildmatch", (line for line in lines if line and not line.startswith("#")))


def copy_files(names: list[str], target: Path) -> Path:
    """Copy files of this checkout into a new folder and return it."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    return target
