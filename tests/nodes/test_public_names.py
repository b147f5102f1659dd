"""The command writes what the schemas say, and with --check only tells."""

from __future__ import annotations

import sys
from pathlib import Path

import folder_paths
import pytest

from workbench import public_names


@pytest.fixture(autouse=True)
def _models_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["public_names", *arguments])
    public_names.main()


def test_all_files_are_as_the_command_writes_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--check")
    assert capsys.readouterr().out == ""


def test_what_would_change_is_named_and_then_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    old, same, new = tmp_path / "old.md", tmp_path / "same.md", tmp_path / "Node" / "en.md"
    old.write_text("λ\n", encoding="utf-8")
    same.write_text("same\n", encoding="utf-8")
    monkeypatch.setattr(public_names, "ROOT", tmp_path)
    monkeypatch.setattr(public_names, "texts", lambda found: {old: "λ, new\n", same: "same\n", new: "λ\n"})
    with pytest.raises(SystemExit, match="python -m workbench.public_names"):
        call(monkeypatch, "--check")
    assert capsys.readouterr().out == "would change: old.md\nwould change: Node/en.md\n"
    assert old.read_text(encoding="utf-8") == "λ\n" and not new.exists()
    call(monkeypatch)
    assert capsys.readouterr().out == "changed: old.md\nchanged: Node/en.md\n"
    assert old.read_text(encoding="utf-8") == "λ, new\n" and new.read_text(encoding="utf-8") == "λ\n"
