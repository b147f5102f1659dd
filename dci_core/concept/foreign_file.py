"""Read files of other programs: safetensors, and what torch.save has written, as far as it is tensors and plain values.

torch.load stands here and nowhere else in the pack, always with ``weights_only=True``: its unpickler then knows tensors,
parameters, numbers, texts, lists and dicts alone, calls nothing else, and refuses a file that names anything else. Nothing else
is ever unpickled; a test holds both. Before torch 2.6 that check could be passed by (CVE-2025-32434): there only safetensors are
read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserInputError
from ..tensor_file import read_tensors

SAFE_ENDINGS = (".safetensors", ".sft")
FIRST_SAFE_TORCH = (2, 6)
_MOST_DEPTH = 4


def read_foreign(path: Path) -> dict[str, Any]:
    """Return what a file holds: tensors on the CPU, texts and numbers, in dicts by name and in lists.

    Raises:
        UserInputError: it cannot be read, or it holds anything else.
    """
    if path.suffix.lower() in SAFE_ENDINGS:
        tensors, metadata = read_tensors(path)
        if metadata.get("format") == "dci_concept":
            raise unusable(
                path, "it is a concept of this pack", "Put it into models/dci_concepts and use Load Concept."
            )
        return dict(tensors)
    if _torch_version() < FIRST_SAFE_TORCH:
        raise unusable(
            path,
            f"torch {torch.__version__} cannot read such files safely",
            "Update torch to 2.6 or newer, or get a .safetensors file.",
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes of the unpickler
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = (
            f"it asks for {named[1]}, and nothing but tensors and plain values is loaded" if named else "it is damaged"
        )
        raise unusable(path, reason, "Ask for a .safetensors file, or get it anew.") from error
    if not isinstance(content, Mapping):
        raise unusable(path, f"it holds {_kind(content)} where names and tensors are expected", "Choose another file.")
    return {name: _plain(path, name, value) for name, value in content.items()}


def unusable(path: Path, reason: str, cure: str) -> UserInputError:
    """Return the error for a file that cannot be imported."""
    return UserInputError(f"{path.name} cannot be imported: {reason}. {cure}")


def _torch_version() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(torch.__version__))[:2])


def _plain(path: Path, name: object, value: Any, depth: int = 1) -> Any:
    """Return a value with plain tensors, dicts and lists in it."""
    if isinstance(value, Tensor) and isinstance(name, (str, int)):
        return value.detach()
    if isinstance(value, Mapping) and depth < _MOST_DEPTH:
        return {key: _plain(path, key, entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) and depth < _MOST_DEPTH:
        return [_plain(path, number, entry, depth + 1) for number, entry in enumerate(value)]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise unusable(
        path, f"{name!r} in it is {_kind(value)}", "Choose a file that holds tensors and plain values alone."
    )


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
