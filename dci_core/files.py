"""Files that are complete under their name, or absent."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it into place in one step.

    The file has the mode of an ordinary new one, whatever ``write`` made, and is on the disk when it appears.

    Args:
        path: target; an existing file is replaced, missing folders are made.
        write: is given the temporary file's path, whose ending is ".tmp".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors makes private files
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 (a test lets this very call fail)
    finally:
        temporary.unlink(missing_ok=True)
