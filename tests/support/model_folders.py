"""The host's model folders in a temporary place."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest


def use_model_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the host's folders for LoRAs, embeddings and diffusers be empty ones below a root; they are made when written to."""
    monkeypatch.setattr(folder_paths, "models_dir", str(root))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    for kind in ("loras", "embeddings", "diffusers"):
        _, endings = folder_paths.folder_names_and_paths[kind]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(root / kind)], endings))
