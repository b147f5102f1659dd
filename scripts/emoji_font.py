"""Get the font that the demo world is drawn with, which its tests need. Nothing is installed into the system."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from comfy_install import cache_folder

VARIABLE = "DCI_DEMO_FONT"
FILE = "NotoColorEmoji.ttf"
PACKAGE = "fonts-noto-color-emoji"
RELEASE = "f06dfe7cfb981a35a3edb98c9cc85c10151f7c79"  # v2.042, the version Debian has
URL = f"https://raw.githubusercontent.com/googlefonts/noto-emoji/{RELEASE}/fonts/{FILE}"
GIT_BLOB = "cf7a47e960cc84bfcbf65bbcf324f56385948b73"


def emoji_font() -> Path | None:
    """Return the font's file: the system's, or a copy in the cache folder, got on first use; None where neither can be had."""
    found = _of_the_system() or _cached()
    if found is not None:
        return found
    target = cache_folder() / FILE
    print(f"Getting {FILE} (the demo world is drawn with it) …", flush=True)
    if _from_package(target) or _from_release(target):
        return target
    print(
        f"The font Noto Color Emoji is missing; tests of the demo world will fail. Install {PACKAGE} with your system's "
        f"package manager, or set {VARIABLE} to the file {FILE}.",
        flush=True,
    )
    return None


def _of_the_system() -> Path | None:
    """Look as the demo world does, without importing what a bare Python lacks."""
    candidates = [Path(os.environ[VARIABLE])] if os.environ.get(VARIABLE) else []
    if not candidates and shutil.which("fc-match"):
        command = ["fc-match", "--format=%{file}", "Noto Color Emoji"]
        candidates.append(Path(subprocess.run(command, capture_output=True, text=True, check=False).stdout))
    candidates.append(Path("/usr/share/fonts/truetype/noto") / FILE)
    return next((path for path in candidates if path.is_file() and "emoji" in path.name.lower()), None)


def _cached() -> Path | None:
    path = cache_folder() / FILE
    return path if path.is_file() else None


def _from_package(target: Path) -> bool:
    """Take the font out of Debian's or Ubuntu's package, which anybody may download and unpack."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["apt-get", "download", "-q", PACKAGE]
        if subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode != 0:
            subprocess.run(["apt-get", "update", "-q"], check=False, capture_output=True)  # works for root only
            subprocess.run(command, cwd=folder, check=False, capture_output=True)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), folder], check=False)
        found = next(Path(folder).rglob(FILE), None)
        return found is not None and _keep(found.read_bytes(), target)


def _from_release(target: Path) -> bool:
    """Take the font from its makers' repository, if it is the very file that is named here."""
    try:
        with urllib.request.urlopen(URL, timeout=60) as answer:
            content = answer.read()
    except OSError as error:
        print(f"  {URL}: {error}", flush=True)
        return False
    if git_blob(content) != GIT_BLOB:
        print(f"  {URL} is not the file that was expected.", flush=True)
        return False
    return _keep(content, target)


def git_blob(content: bytes) -> str:
    """Return the name that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _keep(content: bytes, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(content)
    part.replace(target)
    return True
