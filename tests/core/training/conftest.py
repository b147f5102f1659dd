"""The folder of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyui_dci.dci_core.training.folder import TrainingFolder
from stored_runs import KEY


@pytest.fixture
def folder(tmp_path: Path) -> TrainingFolder:
    return TrainingFolder(tmp_path / "run", KEY)
