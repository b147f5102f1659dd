"""What the user's extra_model_paths.yaml marks as default: the host puts it first, and says nothing of it afterwards."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import folder_paths
import yaml
from comfy.cli_args import args

from ....dci_core.log import LOG


def count_of_defaults(folder: str) -> int:
    """Return how many paths of a model folder are marked ``is_default``; they are the first ones the host has for it."""
    marked = (section for section in _sections() if section.get("is_default"))
    lines = (
        (section.get("base_path"), line) for section in marked for line in str(section.get(folder, "")).split("\n")
    )
    return len({(base, line) for base, line in lines if line})


def _sections() -> list[dict[str, Any]]:
    """Return the sections of every file that the host has read at its start."""
    own = Path(folder_paths.__file__).with_name("extra_model_paths.yaml")
    given = (Path(path) for path in itertools.chain.from_iterable(args.extra_model_paths_config or ()))
    found: list[dict[str, Any]] = []
    for file in (own, *given):
        try:
            read = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
        except (OSError, ValueError, yaml.YAMLError) as error:  # the host has said so before
            LOG.warning("%s cannot be read: %s.", file, error)
            continue
        found += [section for section in (read or {}).values() if isinstance(section, dict)]
    return found
