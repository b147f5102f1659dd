"""Files appear whole or not at all, and never in place of another writer's."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from comfyui_dci.dci_core import files
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.files import ABANDONED_AFTER, check_room, is_abandoned, write_atomically

ROOT = Path(__file__).resolve().parents[2]
WRITERS, FILES = 3, 25
WRITER = """
import sys, time
from pathlib import Path
from dci_core.files import write_atomically
folder, mine, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
time.sleep(max(0.0, start - time.time()))
number = 0
for count in range(int(sys.argv[4])):
    while True:
        try:
            write_atomically(folder / str(number), lambda part: part.write_text(mine * 1000), replace=False)
        except FileExistsError:
            number += 1
        else:
            print(number)
            break
"""


def no_links(*given: Any, **more: Any) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_writers_of_one_name_never_replace_each_other(links: bool, tmp_path: Path) -> None:
    without = "" if links else "import os\ndef refuse(*_): raise PermissionError(1, 'no links')\nos.link = refuse\n"
    start = str(time.time() + 1.0)
    arguments = [[str(tmp_path), name, start, str(FILES)] for name in "abc"[:WRITERS]]
    running = [
        subprocess.Popen([sys.executable, "-c", without + WRITER, *given], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for given in arguments
    ]
    reported = {given[1]: process.communicate(timeout=60)[0].split() for given, process in zip(arguments, running)}
    assert all(process.returncode == 0 for process in running)
    assert all((tmp_path / number).read_text() == name * 1000 for name, own in reported.items() for number in own)
    every = [number for own in reported.values() for number in own]
    assert len(set(every)) == WRITERS * FILES == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_while_another_is_written_is_left_alone(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "cat.safetensors"

    def write(part: Path) -> None:
        part.write_text("mine")
        path.write_text("theirs")

    with pytest.raises(FileExistsError):
        write_atomically(path, write, replace=False)
    assert path.read_text() == "theirs" and list(tmp_path.iterdir()) == [path]
    write_atomically(tmp_path / "dog", lambda part: part.write_text("mine"), replace=False)
    assert (tmp_path / "dog").read_text() == "mine" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_was_written_is_no_error_when_what_is_left_of_it_cannot_be_deleted(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows while another program looks at it."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with monkeypatch.context() as busy:
        busy.setattr(Path, "unlink", no_links)
        write_atomically(tmp_path / "cat", lambda part: part.write_text("whole"), replace=False)
        with pytest.raises(UserInputError, match="cannot be written to .*: Operation not permitted"):
            check_room(tmp_path, 0, "The concept")
    assert (tmp_path / "cat").read_text() == "whole"


def test_the_longest_name_is_written_through_a_shorter_one(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), lambda part: part.write_text("whole"))
    assert (tmp_path / ("n" * 255)).read_text() == "whole"


def temporary_of(process: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary file that a process of this machine would have, left behind."""
    kept = folder / "kept"
    with monkeypatch.context() as other:
        other.setattr(os, "getpid", lambda: process)

        def write(part: Path) -> None:
            kept.write_text(part.name)

        write_atomically(folder / "target", write)
    (folder / kept.read_text()).touch()
    return folder / kept.read_text()


def test_only_temporary_files_of_dead_writers_and_very_old_ones_are_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, own = (temporary_of(process, tmp_path, monkeypatch) for process in (ended.pid, os.getpid()))
    elsewhere = dead.with_name(dead.name.replace(dead.name.split("-")[1], "0123abcd"))
    unknown = tmp_path / f".step_000100-{'0' * 32}.tmp"
    for file in (elsewhere, unknown):
        file.touch()
    assert [is_abandoned(file) for file in (dead, own, elsewhere, unknown)] == [True, False, False, False]
    for file in (own, elsewhere, unknown):
        os.utime(file, (time.time() - ABANDONED_AFTER - 60,) * 2)
        assert is_abandoned(file)
    assert not is_abandoned(tmp_path / "gone.tmp")


def test_room_is_looked_for_without_leaving_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_room(tmp_path / "new" / "deeper", 1000, "The concept")
    assert list(tmp_path.iterdir()) == []
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: usage(10**9, 10**9 - 12_300_000, 12_300_000))
    check_room(tmp_path, 12_300_000, "The concept")
    with pytest.raises(UserInputError, match="The concept may need 39 MB in .*, but 12 MB are free. Free space there"):
        check_room(tmp_path / "new", 38_600_000, "The concept")


def test_a_folder_that_cannot_be_written_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserInputError, match="cannot be written to .*file/below: Not a directory. Make that folder"):
        check_room(tmp_path / "file" / "below", 0, "The concept")

    def read_only(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(UserInputError, match=f"{tmp_path}: Read-only file system. Make that folder writable"):
        check_room(tmp_path, 0, "The concept")
