"""A concept made of what files of other programs hold, on the base they were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UserInputError
from .concept import Concept, ConceptInfo
from .foreign import Foreign
from .scheme import MOST_VECTORS


@dataclass(frozen=True)
class Imported:
    """A concept, and what is to be told of it."""

    concept: Concept
    remarks: Sequence[str]


def joined(files: Sequence[Foreign]) -> Foreign:
    """Return what one or two files hold together.

    Raises:
        UserInputError: both hold weights, or both hold words.
    """
    with_layers = [file for file in files if file.weights or file.changes]
    with_words = [file for file in files if file.words]
    for found, what in ((with_layers, "weights"), (with_words, "vectors")):
        if len(found) > 1:
            raise UserInputError(f"Both files hold {what}. Set weights or embedding to none.")
    if not with_words:
        raise UserInputError(
            "There are no vectors of a word. Choose under embedding the file that belongs to these weights."
        )
    layers = with_layers[0] if with_layers else Foreign()
    return Foreign(layers.weights, layers.changes, layers.biases, with_words[0].words)


def imported_concept(found: Foreign, base: Mapping[str, Tensor], info: ConceptInfo, word: str = "") -> Imported:
    """Return the concept: changes are what differs from the base, V* is one word or all of them behind one another.

    Args:
        found: see ``joined``.
        base: the model's weights by key, those of ``needed_keys``.
        info: of the concept; the number of vectors is put in.
        word: that V* is to stand for; "" for all.

    Raises:
        UserInputError: no such word, too many vectors, or other layers or shapes than the base has.
    """
    tokens = _tokens(found.words, word)
    count = len(next(iter(tokens.values())))
    if count > MOST_VECTORS or len({len(rows) for rows in tokens.values()}) > 1:
        raise UserInputError(
            f"{_listed(found.words)} {'have' if len(found.words) > 1 else 'has'} {count} vectors, and a concept has 1 to "
            f"{MOST_VECTORS}, the same number for each text encoder. Set word to one of them, or use the file as an embedding."
        )
    deltas = dict(found.changes)
    for name, weight in found.weights.items():
        deltas[name] = weight - _fitting(base, f"{name}.weight", weight).cpu().float()
    for name, delta in found.changes.items():
        _fitting(base, f"{name}.weight", delta)
    _check_pairs(deltas)
    remarks = []
    if len(found.words) > 1 and not word:
        remarks.append(
            f"The file holds {_listed(found.words)}: {info.placeholder} stands for all of them together. Set word to take one."
        )
    if any(not torch.equal(bias, base[f"{name}.bias"].cpu().float()) for name, bias in found.biases.items()):
        remarks.append(
            "The file changes the biases of output projections, which a concept cannot hold; they are left out."
        )
    return Imported(Concept(deltas, tokens, replace(info, concept_vectors=count)), tuple(remarks))


def needed_keys(found: Foreign) -> list[str]:
    """Return the keys of the base's weights that ``imported_concept`` looks at."""
    weights = [f"{name}.weight" for name in {**found.weights, **found.changes}]
    return weights + [f"{name}.bias" for name in found.biases]


def _tokens(words: Mapping[str, Mapping[str, Tensor]], word: str) -> dict[str, Tensor]:
    if word and word not in words:
        raise UserInputError(
            f"There is no word {word!r} in the file. It holds {_listed(words)}; leave word empty to take all."
        )
    taken = [words[word]] if word else list(words.values())
    return {encoder: torch.cat([vectors[encoder] for vectors in taken]) for encoder in taken[0]}


def _listed(words: Mapping[str, object]) -> str:
    shown = ", ".join(list(words)[:8])
    return shown if len(words) <= 8 else f"{shown} and {len(words) - 8} more"


def _fitting(base: Mapping[str, Tensor], key: str, tensor: Tensor) -> Tensor:
    weight = base.get(key)
    if weight is None or weight.shape != tensor.shape:
        there = "none" if weight is None else f"one of shape {tuple(weight.shape)}"
        raise UserInputError(
            f"The file has a weight {key} of shape {tuple(tensor.shape)}, this model has {there}. Connect the checkpoint that it "
            "was trained on."
        )
    return weight


def _check_pairs(deltas: Mapping[str, Tensor]) -> None:
    for name in deltas:
        layer = name.rpartition(".attn2.")[0]
        for kind in ("to_k", "to_v"):
            if f"{layer}.attn2.{kind}" not in deltas:
                raise UserInputError(
                    f"The file has a weight {name}, but none {layer}.attn2.{kind}. A concept changes K and V of every layer it "
                    "changes. Choose a complete file."
                )
