"""Everything a run needs to go on bit for bit: trained tensors, optimizer, moving average, random numbers, history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserInputError
from ..tensor_file import check_content, damaged, read_tensors, write_tensors
from .concept_training import ConceptTraining
from .settings import OptimizerKind

FORMAT = "dci_training_state"
FORMAT_VERSION = "1"
_OPTIMIZER_SHARE = {OptimizerKind.ADAMW: 2.0, OptimizerKind.ADAMW_8BIT: 0.55}
"""Size of the optimizer's state, in sizes of the trained tensors: two moments, in float32 or in 8 bits with their scales."""


@dataclass(frozen=True)
class TrainingState:
    """A run between two steps: tensors by name, and values that are JSON."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def state_of(training: ConceptTraining) -> TrainingState:
    """Return a copy of a run's state on the CPU."""
    tensors: dict[str, Tensor] = {f"parameter/{name}": value for name, value in training.parameters().items()}
    optimizer = _flat(training.optimizer.state_dict()["state"])
    tensors |= {f"optimizer/{name}": value for name, value in optimizer.items() if isinstance(value, Tensor)}
    if training.average is not None:
        tensors |= {f"average/{name}": value for name, value in training.average.averages.items()}
    tensors["generator"] = training.generator.get_state()
    values = {
        "losses": training.losses,
        "evaluations": training.evaluations,
        "start": training.start,
        "decks": {name: deck.cards for name, deck in training.decks.items()},
        "optimizer": {name: value for name, value in optimizer.items() if not isinstance(value, Tensor)},
        "scaler": training.scaler.state_dict(),
        "average_updates": 0 if training.average is None else training.average.updates,
    }
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    return TrainingState(copies, json.loads(json.dumps(values)))


def expected_size(training: ConceptTraining) -> int:
    """Return how many bytes the state of a run will take, about; nothing is copied."""
    trained = sum(value.nbytes for value in training.parameters().values())
    return round(trained * (1 + _OPTIMIZER_SHARE[training.settings.optimizer] + (training.average is not None)))


@torch.no_grad()
def restore_state(training: ConceptTraining, state: TrainingState) -> None:
    """Put a run of the same inputs where another one was.

    Its number of steps may be another: an evaluation that was made only because the other run ended there is left out.

    Raises:
        UserInputError: the state belongs to other tensors than this run trains; nothing is changed then.
    """
    parameters = training.parameters()
    stored = _below("parameter/", state.tensors)
    if {n: v.shape for n, v in stored.items()} != {n: v.shape for n, v in parameters.items()}:
        raise UserInputError("The checkpoint belongs to a run that trained other tensors. Train anew, with reuse off.")
    for name, value in stored.items():
        parameters[name].copy_(value)
    slots = _nested({**state.values["optimizer"], **_below("optimizer/", state.tensors)})
    by_parameter = {int(index): of_one for index, of_one in slots.items()}
    training.optimizer.load_state_dict({**training.optimizer.state_dict(), "state": by_parameter})
    if training.average is not None:
        training.average.updates = state.values["average_updates"]
        for name, value in _below("average/", state.tensors).items():
            training.average.averages[name].copy_(value)
    training.generator.set_state(state.tensors["generator"])
    for name, cards in state.values["decks"].items():
        training.decks[name].cards = list(cards)
    training.scaler.load_state_dict(state.values["scaler"])
    training.losses = list(state.values["losses"])
    training.evaluations = [
        entry for entry in state.values["evaluations"] if training.settings.is_evaluated(int(entry["step"]))
    ]
    training.start = state.values.get("start", training.start)  # states of older versions have none


def save_state(state: TrainingState, path: Path, key: str, path_key: str = "") -> None:
    """Write a state, complete or not at all.

    Args:
        state: what to write.
        path: target; any ending, the content is safetensors.
        key: of the run, see ``fingerprint.run_key``.
        path_key: the same of all runs that take the same steps and differ in their number only; "" where there are none.
    """
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "key": key}
    metadata |= {"path_key": path_key, "steps": str(len(state.values["losses"]))} if path_key else {}
    write_tensors(path, state.tensors, {**metadata, "values": json.dumps(state.values, sort_keys=True)})


def load_state(path: Path, key: str, path_key: str = "") -> TrainingState:
    """Read a state and check it completely; nothing is unpickled.

    Args:
        path, key: of the run that goes on.
        path_key: a state of another run is taken where it has the same; "" takes none.

    Raises:
        UserInputError: the file is damaged, no training state, or of a run with other keys.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT or metadata.get("format_version") != FORMAT_VERSION:
        raise damaged(path, "it is no training state that this version reads")
    metadata = check_content(path, tensors, metadata)
    if metadata["key"] != key and not (path_key and metadata.get("path_key") == path_key):
        raise damaged(path, "it belongs to a run with other images or settings")
    return TrainingState(tensors, json.loads(metadata["values"]))


def _flat(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of dictionaries in dictionaries, named by their path: bitsandbytes keeps its state two levels deep."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Undo ``_flat``; keys come back as strings."""
    values: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *folders, name = path.split("/")
        place = values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = leaf
    return values


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
