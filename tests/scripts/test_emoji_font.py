"""The demo world's font is had without touching the system, or a sentence says how to get it."""

from __future__ import annotations

import shutil
from pathlib import Path

import comfy_install
import emoji_font
import pytest


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without the font, an empty cache folder and no network."""
    monkeypatch.delenv(emoji_font.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(emoji_font, "_of_the_system", lambda: None)
    monkeypatch.setattr(emoji_font, "URL", (tmp_path / "nowhere").as_uri())
    return tmp_path


def test_a_named_font_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "MyEmoji.ttf"
    mine.write_bytes(b"a font")
    monkeypatch.setenv(emoji_font.VARIABLE, str(mine))
    assert emoji_font.emoji_font() == mine


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="a package can only be unpacked on Debian and Ubuntu")
def test_it_is_unpacked_from_the_systems_package_and_kept(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = emoji_font.subprocess.run, []

    def without_network(command: list[str], **options: object) -> object:
        calls.append(command[:2])
        if command[:2] == ["apt-get", "download"]:
            built = Path(str(options["cwd"])) / "made"
            (built / "DEBIAN").mkdir(parents=True)
            (built / "usr" / "share").mkdir(parents=True)
            (built / "usr" / "share" / emoji_font.FILE).write_bytes(b"a font")
            control = (
                f"Package: {emoji_font.PACKAGE}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: x\n"
            )
            (built / "DEBIAN" / "control").write_text(control)
            run(["dpkg-deb", "-b", str(built), str(built.parent / "font.deb")], check=True, capture_output=True)
            shutil.rmtree(built)
            command = ["true"]
        return run(command, **options)

    monkeypatch.setattr(emoji_font.shutil, "which", lambda name: name)
    monkeypatch.setattr(emoji_font.subprocess, "run", without_network)
    font = emoji_font.emoji_font()
    assert font == comfy_install.cache_folder() / emoji_font.FILE and font.read_bytes() == b"a font"
    calls.clear()
    assert emoji_font.emoji_font() == font and not calls


def test_without_packages_it_comes_from_its_makers_if_it_is_the_very_file(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(emoji_font.shutil, "which", lambda name: None)
    released = nothing_installed / "released.ttf"
    released.write_bytes(b"hello\n")
    monkeypatch.setattr(emoji_font, "URL", released.as_uri())
    assert emoji_font.emoji_font() is None
    assert "is not the file that was expected" in capsys.readouterr().out
    monkeypatch.setattr(
        emoji_font, "GIT_BLOB", "ce013625030ba8dba906f756967f9e9ca394464a"
    )  # git hash-object of "hello\n"
    font = emoji_font.emoji_font()
    assert font is not None and font.read_bytes() == b"hello\n"


def test_where_it_cannot_be_had_a_sentence_says_how(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(emoji_font.shutil, "which", lambda name: None)
    assert emoji_font.emoji_font() is None
    printed = capsys.readouterr().out
    assert emoji_font.PACKAGE in printed and emoji_font.VARIABLE in printed
