"""Get the font that the demo world is drawn with, which its tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PACKAGE = "fonts-noto-color-emoji"


def ensure_emoji_font() -> None:
    """Install Noto Color Emoji where it is missing and the system lets us; else say how to get it, and go on."""
    if _is_there():
        return
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        print(f"Installing {PACKAGE} (the demo world is drawn with it) …", flush=True)
        for command in (["install", "-y", "-q", PACKAGE], ["update", "-q"], ["install", "-y", "-q", PACKAGE]):
            subprocess.run(["apt-get", *command], check=False, stdout=subprocess.DEVNULL)
            if _is_there():
                return
    print(
        f"The font Noto Color Emoji is missing; tests of the demo world will fail. Install {PACKAGE} with your system's package manager, "
        "or set DCI_DEMO_FONT to the file NotoColorEmoji.ttf.",
        flush=True,
    )


def _is_there() -> bool:
    """Ask in the way the demo world looks for it, without importing what a bare Python lacks."""
    fonts = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
    if Path(os.environ.get("DCI_DEMO_FONT", fonts)).is_file():
        return True
    if not shutil.which("fc-match"):
        return False
    found = subprocess.run(
        ["fc-match", "--format=%{file}", "Noto Color Emoji"], capture_output=True, text=True, check=False
    ).stdout
    return "emoji" in found.lower()
