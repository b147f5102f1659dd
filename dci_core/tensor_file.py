"""Safetensors files that are complete or absent, and that say when they were changed or damaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import UserInputError
from .files import write_atomically

HASH_KEY = "content_hash"


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    covered: Collection[str] | None = None,
    replace: bool = True,
) -> None:
    """Write tensors and metadata with a checksum; the file appears complete under its name or not at all.

    The same content gives the same bytes.

    Args:
        path: target; missing folders are made.
        tensors: on the CPU, contiguous.
        metadata: without the checksum.
        covered: metadata keys that the checksum covers, beside all tensors; None is every key.
        replace: an existing file; see ``write_atomically``.
    """
    complete = {**metadata, HASH_KEY: content_hash(tensors, _covered(metadata, covered))}

    def write(temporary: Path) -> None:
        save_file(dict(tensors), temporary, complete)
        _sort_metadata(temporary)

    write_atomically(path, write, replace)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and metadata of a file, its checksum among them; nothing is unpickled.

    Raises:
        UserInputError: it cannot be read, is truncated, or is no safetensors file.
    """
    with _opened(path) as file:
        names = list(file.keys())
        # copies: a mapped file cannot be deleted or replaced on Windows
        return {name: file.get_tensor(name).clone() for name in names}, dict(file.metadata() or {})


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file, unchecked; no tensor is read.

    Raises:
        UserInputError: as ``read_tensors``.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            yield file
    except OSError as error:
        raise damaged(path, f"it cannot be read ({error})") from error
    except (SafetensorError, ValueError) as error:
        raise damaged(path, "it is truncated or no safetensors file") from error


def check_content(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], covered: Collection[str] | None = None
) -> dict[str, str]:
    """Return the metadata without the checksum.

    Args:
        path: of the file, for the error.
        tensors, metadata: as they were read.
        covered: as in ``write_tensors``.

    Raises:
        UserInputError: the tensors, or the metadata that the checksum covers, are not those that were written.
    """
    rest = {name: value for name, value in metadata.items() if name != HASH_KEY}
    if metadata.get(HASH_KEY) != content_hash(tensors, _covered(rest, covered)):
        raise damaged(path, "its content does not match its checksum, so it was changed after it was saved")
    return rest


def content_hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of metadata and of name, dtype, shape and bytes of each tensor."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def damaged(path: Path, reason: str) -> UserInputError:
    """Return the error for a file that cannot be used."""
    return UserInputError(f"{path.name} cannot be used: {reason}. Save the concept again, or get the file anew.")


def _covered(metadata: Mapping[str, str], covered: Collection[str] | None) -> Mapping[str, str]:
    return metadata if covered is None else {name: metadata[name] for name in covered if name in metadata}


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a file in order of their names; the library writes them in random order, so no two files are alike."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:  # the library escapes as this one does
            file.seek(8)
            file.write(text.ljust(length))
