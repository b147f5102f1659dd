"""The cache folder of the demo trainings, their checkpoints, and the training log."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from comfyui_dci.dci_core.files import write_atomically

CACHE_VARIABLE = "DCI_DEMO_CACHE"
RELEASE = Path(__file__).resolve().parent / "release"  # what is shipped


def cache_folder() -> Path:
    """Folder of pools and checkpoints: the environment variable DCI_DEMO_CACHE, or ~/.cache/dci-demo."""
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "dci-demo")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training state (tensors, numbers, strings, nested dicts and lists of these)."""
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training state back to the CPU; only plain data is unpickled."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def sources_hash(files: Iterable[str | None], *facts: str) -> str:
    """Twelve hexadecimal digits that change with what makes something, so that nothing stale is taken for it.

    Args:
        files: source files, as modules name them.
        facts: what else it depends on.
    """
    texts = [Path(str(file)).read_text(encoding="utf-8") for file in files]
    return hashlib.sha256("\0".join([*texts, *facts]).encode()).hexdigest()[:12]


def require(path: Path, cure: str) -> Path:
    """Return `path`, or say which command makes it.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Run '{cure}' first.")
    return path


def training_log(name: str) -> logging.Logger:
    """A logger that writes timestamped lines to the terminal."""
    logger = logging.getLogger(f"dci_demo.{name}")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False  # the host sets up the root logger too
    return logger
