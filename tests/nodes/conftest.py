"""The concept folder, as the entry point registers it, but in a temporary place."""

from __future__ import annotations

from pathlib import Path

import pytest
from few_draws import few_evaluation_draws

__all__ = ["concepts", "few_evaluation_draws"]


@pytest.fixture(autouse=True)
def concepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import folder_paths

    folder = tmp_path / "dci_concepts"
    folder.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dci_concepts", ([str(folder)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    return folder
