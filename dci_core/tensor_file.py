"""Safetensors files that are complete or absent, and that say when they were changed or damaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import UserInputError
from .files import write_atomically

HASH_KEY = "content_hash"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata with a checksum; the file appears complete under its name or not at all.

    Args:
        path: target; an existing file is replaced, missing folders are made.
        tensors: on the CPU, contiguous.
        metadata: without the checksum.
    """
    complete = {**metadata, HASH_KEY: content_hash(tensors, metadata)}
    write_atomically(path, lambda temporary: save_file(dict(tensors), temporary, complete))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and metadata of a file, its checksum among them; nothing is unpickled.

    Raises:
        UserInputError: it cannot be read, is truncated, or is no safetensors file.
    """
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = list(file.keys())
            # copies: a mapped file cannot be deleted or replaced on Windows
            return {name: file.get_tensor(name).clone() for name in names}, dict(file.metadata() or {})
    except OSError as error:
        raise damaged(path, f"it cannot be read ({error})") from error
    except (SafetensorError, ValueError) as error:
        raise damaged(path, "it is truncated or no safetensors file") from error


def check_content(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata without the checksum.

    Raises:
        UserInputError: tensors and metadata are not those that were written.
    """
    rest = {name: value for name, value in metadata.items() if name != HASH_KEY}
    if metadata.get(HASH_KEY) != content_hash(tensors, rest):
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
