"""The metadata of a concept file: which fields are written, which of them the checksum covers, and how each is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

from ..tensor_file import damaged
from .concept import FORMAT_VERSION, Concept, ConceptInfo
from .modelspec import modelspec_of
from .scheme import ICOScheme

FORMAT = "dci_concept"
THUMBNAIL = "modelspec.thumbnail"
GRAPH = ("prompt", "workflow")
"""Keys under which ComfyUI's canvas looks for the graph of a file that is dropped on it: for the API, and as it was drawn."""
REQUIRED = (
    "family",
    "class_noun",
    "placeholder",
    "prefix",
    "suffix",
    "concept_vectors",
    "steps",
    "base_hash",
    "format_version",
)
"""Fields that every file has."""
COVERED = ("format", *REQUIRED, "training_key", "prediction", "clip_layer", "model_patches", "clip_patches")
"""Keys that decide how a file is read, what it does and what it is told to differ from."""
COVERED_OF_VERSION = {"1": None, "2": COVERED}
"""What the checksum covers, by version of the format; None is everything."""
_REQUIRED_OF_VERSION = {"1": (*REQUIRED, "seed", "settings", "package_version"), "2": REQUIRED}


class Metadata(str, Enum):
    """How much a file says about its training."""

    ALL = "all"
    NO_PICTURE = "no picture"
    LEAST = "least"


def least(info: ConceptInfo) -> ConceptInfo:
    """Return what is needed to load and apply a concept: nothing of the photographs, the settings or the run."""
    return replace(
        info,
        seed=None,
        settings={},
        package_version="",
        training_key="",
        dataset_hash="",
        versions={},
        history={},
        thumbnail="",
    )


def metadata_of(concept: Concept, kept: Metadata = Metadata.ALL) -> dict[str, str]:
    """Return the metadata of a concept's file, without its checksum.

    Args:
        concept: to be written.
        kept: ``ALL`` writes whatever is known, ``NO_PICTURE`` all but the thumbnail, ``LEAST`` what ``least`` keeps, and no fields for
            other programs, the graph among them.
    """
    info = concept.info
    if kept is Metadata.NO_PICTURE:
        info = replace(info, thumbnail="")
    elif kept is Metadata.LEAST:
        info = least(info)
    values = asdict(replace(info, format_version=FORMAT_VERSION))
    del values["thumbnail"]  # it stands where other programs look for it
    own = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in values.items()
        if name in REQUIRED or value not in ("", None, {})
    }
    others = {} if kept is Metadata.LEAST else {**modelspec_of(info, bool(concept.deltas)), **concept.graph}
    return {"format": FORMAT} | own | others


def info_from(path: Path, metadata: Mapping[str, str], warn: Callable[[str], object]) -> ConceptInfo:
    """Return what a file says about itself.

    Args:
        path: of the file, for errors.
        metadata: of a version in ``COVERED_OF_VERSION``; its checksum has been checked.
        warn: is told of each field outside the checksum that cannot be read; it is left out.

    Raises:
        UserInputError: a field that the version requires is missing, or one that the checksum covers cannot be read.
    """
    version = metadata["format_version"]
    covered = COVERED_OF_VERSION[version]
    values: dict[str, Any] = {}
    for entry in fields(ConceptInfo):
        key = THUMBNAIL if entry.name == "thumbnail" else entry.name
        if key not in metadata:
            if entry.name in _REQUIRED_OF_VERSION[version]:
                raise damaged(path, f"its metadata lacks {entry.name!r}")
            continue
        read = json.loads if covered is None and entry.name in _OBJECTS else _READERS.get(entry.name, str)
        try:
            values[entry.name] = read(metadata[key])
        except (ValueError, OverflowError, RecursionError) as error:
            if covered is None or entry.name in covered:
                raise damaged(path, f"its metadata cannot be read ({error})") from error
            warn(f"{path.name}: {key} in its metadata cannot be read ({error}) and is left out; the concept is whole.")
    info = ConceptInfo(**{"seed": None, **values})
    try:
        ICOScheme(info.prefix, info.suffix, info.concept_vectors)
    except ValueError as error:
        raise damaged(path, f"its metadata cannot be read ({error})") from error
    return info


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _history(text: str) -> dict[str, Any]:
    """Return a run's history, whose numbers are where its readers look for them."""
    history = _object(text)
    for name, is_good in _PARTS_OF_HISTORY.items():
        if name in history and not is_good(history[name]):
            raise ValueError(f"{name!r} is not made of numbers")
    return history


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_measured(value: object) -> bool:
    return isinstance(value, dict) and "loss" in value and all(map(_is_number, value.values()))


def _are_evaluations(value: object) -> bool:
    return isinstance(value, list) and all(_is_measured(entry) and "step" in entry for entry in value)


_PARTS_OF_HISTORY: Mapping[str, Callable[[object], bool]] = {
    "loss": _are_numbers,
    "evaluations": _are_evaluations,
    "best_step": _is_number,
    "start": _is_measured,
    "end": _is_measured,
    "key_value_change": _is_number,
}
_OBJECTS: Mapping[str, Callable[[str], Any]] = {"settings": _object, "versions": _object, "history": _history}
_INTEGERS = ("prefix", "suffix", "concept_vectors", "steps", "seed", "format_version", "clip_layer")
_READERS: Mapping[str, Callable[[str], Any]] = {**_OBJECTS, **dict.fromkeys(_INTEGERS, int)}
"""How the text of a field is read; that of all others is the value."""
