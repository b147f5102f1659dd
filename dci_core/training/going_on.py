"""Where a run begins: what it goes on from, or why it cannot go on from a finished one of the same images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserInputError
from ..tensor_file import read_metadata
from .folder import FINISHED, FINISHED_STATE, TrainingFolder, name_of_run
from .settings import TrainingSettings

_SHOWN = {
    "class_noun": "class_noun",
    "placeholder": "placeholder",
    "prefix": "contexts_before",
    "suffix": "contexts_after",
    "concept_vectors": "concept_vectors",
    "seed": "seed",
    "base_hash": "model",
    "package_version": "version of this pack",
}
"""Fields of ``ConceptInfo`` that shape a run, and what the user calls them."""
_SHAPE_NO_STEP = ("steps", "gradient_checkpointing")


@dataclass(frozen=True)
class _Finished:
    """A finished run of the same images.

    Args:
        folder: of the run.
        steps: it has.
        differences: what of it differs, as the user calls it; the number of steps is none.
    """

    folder: Path
    steps: int
    differences: list[str]


def beginning_text(folder: TrainingFolder, facts: Mapping[str, Any], settings: TrainingSettings) -> str:
    """Return what a run goes on from, or why it begins at step 1 although there is a finished run of its images; else "".

    Only the heads of files are read.

    Args:
        folder: of the run.
        facts: fields of its concept's ``ConceptInfo``, by name.
        settings: of the run.
    """
    states = folder.states(settings.steps)
    if states:
        first = states[0]
        if first.path.parent == folder.path:
            return f"Going on from step {first.steps}, where it was interrupted."
        return f"Going on from step {first.steps} of {name_of_run(first.path.parent)}."
    others = [run for run in _finished_runs(folder, facts) if _is_of_interest(run, settings.steps)]
    if not others:
        return ""
    nearest = min(others, key=lambda run: (len(run.differences), run.steps > settings.steps, -run.steps))
    return (
        f"Begins at step 1: {name_of_run(nearest.folder)} has {nearest.steps} steps of these images, but "
        f"{_obstacle(nearest, settings)}."
    )


def _is_of_interest(run: _Finished, steps: int) -> bool:
    return run.steps < steps or (run.steps > steps and not run.differences)


def _obstacle(run: _Finished, settings: TrainingSettings) -> str:
    if run.differences:
        return f"with another {', '.join(run.differences)}"
    if run.steps > settings.steps:
        text, there = f"a run cannot go back to {settings.steps}", run.folder / f"step_{settings.steps:06d}.safetensors"
        return text + (
            f"; its concept of that step is {name_of_run(run.folder)}/{there.name}" if there.is_file() else ""
        )
    if not settings.goes_on:
        return f"with schedule {settings.schedule.value} every number of steps is a run of its own"
    if not (run.folder / FINISHED_STATE).is_file():
        return "it holds no state to go on from (keep_state, or a longer run has taken its place)"
    return "its captions, or the weights of model, CLIP or VAE, differ"


def _finished_runs(folder: TrainingFolder, facts: Mapping[str, Any]) -> Iterator[_Finished]:
    for path in (path for root in folder.roots for path in sorted(root.glob(f"*/{FINISHED}"))):
        try:
            stored = read_metadata(path)
        except UserInputError:
            continue
        same_images = facts["dataset_hash"] and stored.get("dataset_hash") == facts["dataset_hash"]
        if path.parent != folder.path and same_images and stored.get("steps", "").isdecimal():
            yield _Finished(path.parent, int(stored["steps"]), _differences(stored, facts))


def _differences(stored: Mapping[str, str], facts: Mapping[str, Any]) -> list[str]:
    """Return what differs between the metadata of a file and the facts of a run; what either does not tell is left out."""
    fields = [shown for name, shown in _SHOWN.items() if name in stored and stored[name] != str(facts[name])]
    try:
        settings = dict(json.loads(stored.get("settings", "{}")))
    except ValueError:
        settings = {}
    ours = facts["settings"]
    return fields + [
        name for name, value in settings.items() if name in ours and name not in _SHAPE_NO_STEP and ours[name] != value
    ]
