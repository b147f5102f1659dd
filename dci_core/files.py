"""Files that are complete under their name, or absent; and whether there is room for them."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UserInputError

ABANDONED_AFTER = 24 * 3600.0
"""Seconds without a change after which a temporary file is taken for left behind, whoever wrote it."""
_TEMPORARY = re.compile(r"\.dci-([0-9a-f]{8})-(\d{1,10})-[0-9a-f]{32}\.tmp")


def write_atomically(path: Path, write: Callable[[Path], object], replace: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then give it that name in one step.

    The file has the mode of an ordinary new one, whatever ``write`` made, and is on the disk when it appears.

    Args:
        path: target; missing folders are made.
        write: is given the temporary file's path, whose ending is ".tmp".
        replace: an existing file; False leaves it alone, also when it appears while ``write`` is at work.

    Raises:
        FileExistsError: there is a file of that name, and it is not to be replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_file(path.parent) as temporary:
        mode = temporary.stat().st_mode  # safetensors makes private files
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)  # noqa: PTH105 (a test lets this very call fail)
        else:
            _publish(temporary, path)


def is_abandoned(file: Path) -> bool:
    """Whether a temporary file's writer is gone: a dead process of this machine, or any when nothing was written for a day."""
    try:
        age = time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return False
    written = _TEMPORARY.fullmatch(file.name)
    lost = written is not None and written[1] == _machine() and not _is_running(int(written[2]))
    return lost or age > ABANDONED_AFTER


def check_room(folder: Path, size: int, what: str) -> None:
    """Check that files can be written into a folder; nothing is left there, and missing folders are not made.

    Args:
        folder: where; it need not exist.
        size: bytes that are to be free.
        what: is to be written, the beginning of the error's sentence.

    Raises:
        UserInputError: the folder cannot be made or written, or has not that much room.
    """
    try:
        with _temporary_file(_existing(folder)) as temporary:
            temporary.unlink()
    except OSError as error:
        raise UserInputError(
            f"{what} cannot be written to {folder}: {reason_of(error)}. Make that folder writable, or use another one."
        ) from error
    free = free_bytes(folder)
    if free is not None and free < size:
        raise UserInputError(
            f"{what} may need {megabytes(size)} in {folder}, but {megabytes(free)} are free. Free space there first."
        )


def free_bytes(folder: Path) -> int | None:
    """Return how much can be written to the disk of a folder, which need not exist; None where the system does not say."""
    try:
        return shutil.disk_usage(_existing(folder)).free
    except OSError:
        return None


def megabytes(size: float) -> str:
    """Return a number of bytes as text: tenths below 10 MB, whole megabytes above."""
    return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"


def reason_of(error: BaseException) -> str:
    """Return what went wrong with a file, in the system's words and without the paths it repeats."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)


def _existing(folder: Path) -> Path:
    """Return the folder, or the first above it that is there."""
    return next((above for above in (folder, *folder.absolute().parents) if os.path.lexists(above)), folder)


@contextmanager
def _temporary_file(folder: Path) -> Iterator[Path]:
    """Make an empty file whose name tells who writes it; it is gone afterwards, unless it was moved away."""
    temporary = folder / f".dci-{_machine()}-{os.getpid()}-{uuid.uuid4().hex}.tmp"
    try:
        temporary.touch()
        yield temporary
    finally:
        with suppress(OSError):  # on Windows another program may be reading it; what was written stands
            temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name where that is free."""
    try:
        os.link(temporary, path)  # noqa: PTH200 (Path.hardlink_to reads the other way round)
    except FileExistsError:
        raise
    except OSError:  # no links on this disk, such as exFAT
        _publish_by_claim(temporary, path)


def _publish_by_claim(temporary: Path, path: Path) -> None:
    """Do the same where only one of all writers holds the claim to the name; one that died with it costs that name alone."""
    claim = path.with_name(f".dci-{hashlib.sha256(path.name.encode()).hexdigest()[:16]}.claim")
    claim.touch(exist_ok=False)
    try:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        temporary.replace(path)
    finally:
        with suppress(OSError):
            claim.unlink(missing_ok=True)


def _machine() -> str:
    """Return what stands for the machine, in names: process numbers mean something only there.

    On Linux each start of the system is one of its own, and so is each container: two that share a disk may share a name too.
    """
    facts = [platform.node()]
    with suppress(OSError):
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    if os.name == "nt":  # os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
