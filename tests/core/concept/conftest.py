"""Where a concept file is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_dci.dci_core.concept.file import save_concept
from concept_files import small_concept


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tortoise.safetensors"


@pytest.fixture
def saved(path: Path) -> Path:
    save_concept(small_concept(), path)
    return path
