"""A trained concept: what it consists of, what it fits, and the fingerprint of the base it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UserInputError
from ..prompt.words import check_placeholder

FORMAT_VERSION = 2
"""Of the files that are written. In version 1 the checksum covered all metadata, and every field but those of runs was required."""


@dataclass(frozen=True)
class ConceptInfo:
    """What a concept file says about itself; the field names are its metadata keys, for ever.

    Args:
        family: of the base model, by its name in ``families``.
        class_noun: the plain word for the subject.
        placeholder: how prompts call the concept, usually "V*".
        prefix, suffix, concept_vectors: the scheme M, L, S.
        steps: optimizer steps taken.
        seed: of the training; None when unknown.
        base_hash: ``key_value_hash`` of the base's cross-attention K and V.
        settings: everything else that shaped the training, JSON values only.
        package_version: of the code that trained it.
        format_version: of the file.
        training_key: of the run's inputs, see ``fingerprint.run_key``; "" when it has none.
        dataset_hash: SHA-256 of the reference and class images; "" when unknown.
        versions: of the programs that trained it, by name.
        history: "loss" of every step, "evaluations" and "best_step", where there are any; "start" and "end" (each "loss" and
            "loss_without_contexts" on fixed noise) and "key_value_change", see ``training.report``.
        prediction: what the base predicts, "epsilon" or "v"; "" when unknown.
        thumbnail: a small picture of the first reference image as a data URL, or "".
        clip_layer: layer that the text encoders stopped at, counted from the end: -1 is the last; None when unknown.
        model_patches, clip_patches: what lay on the base's weights beside the checkpoint, LoRAs mostly, as ``base.BaseFacts`` tells it;
            "" when unknown.
    """

    family: str
    class_noun: str
    placeholder: str
    prefix: int
    suffix: int
    concept_vectors: int
    steps: int
    seed: int | None
    base_hash: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    package_version: str = ""
    format_version: int = FORMAT_VERSION
    training_key: str = ""
    dataset_hash: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    history: Mapping[str, Any] = field(default_factory=dict)
    prediction: str = ""
    thumbnail: str = ""
    clip_layer: int | None = None
    model_patches: str = ""
    clip_patches: str = ""


@dataclass(frozen=True)
class Concept:
    """A concept in memory.

    Args:
        deltas: what is added to each cross-attention K and V weight, by module name as the host
            knows it ("diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k"), [out, in]; none after a
            textual inversion, those of Q and output projections too in mode cross_attention.
        tokens: [T] per text encoder ("clip_l" …), [S, D].
        contexts: [I] per text encoder, [n, M+L, D]; None when thrown away.
        info: metadata.
        graph: that trained it, as JSON, under the names of ``metadata.GRAPH``; none when unknown.
    """

    deltas: Mapping[str, Tensor]
    tokens: Mapping[str, Tensor]
    info: ConceptInfo
    contexts: Mapping[str, Tensor] | None = None
    graph: Mapping[str, str] = field(default_factory=dict)


def renamed(concept: Concept, placeholder: str) -> Concept:
    """Return the concept under another placeholder; an empty one keeps the one it was trained with.

    Raises:
        UserInputError: prompts could not carry the placeholder.
    """
    if not placeholder.strip():
        return concept
    check_placeholder(placeholder.strip(), concept.info.class_noun)
    return replace(concept, info=replace(concept.info, placeholder=placeholder.strip()))


def key_value_hash(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of K and V weights: name, dtype, shape and bytes of each, in order of name."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights, key=lambda item: item[0]):
        digest.update(f"{name}|{weight.dtype}|{list(weight.shape)}|".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_concept_fits(
    concept: Concept,
    family: str,
    shapes: Mapping[str, tuple[int, ...]],
    token_widths: Mapping[str, int],
) -> None:
    """Check a concept against the model it is to be applied to; what only differs is told by ``base.differences``.

    Args:
        concept: the concept.
        family: of the model.
        shapes: of each cross-attention weight of the model, by module name; those of projections
            that the concept does not change do not matter.
        token_widths: embedding width per text encoder of the CLIP.

    Raises:
        UserInputError: another family, other layers, other text encoders, or other shapes.
    """
    info = concept.info
    if info.family != family:
        raise UserInputError(
            f"The concept was trained on a {info.family} model, this is a {family} model. "
            f"Load a {info.family} checkpoint, or train the concept again on this one."
        )
    changed = {_projection(name) for name in concept.deltas}
    expected = {name for name in shapes if _projection(name) in changed}
    if set(concept.deltas) != expected:
        stranger = sorted(set(concept.deltas) ^ expected)[0]
        raise UserInputError(
            f"The concept changes {len(concept.deltas)} cross-attention weights, this model has "
            f"{len(expected)} (first difference: {stranger}). Use the checkpoint it was trained on, or train again."
        )
    for name, delta in concept.deltas.items():
        if tuple(delta.shape) != tuple(shapes[name]):
            raise UserInputError(
                f"The concept's {name} has shape {tuple(delta.shape)}, the model's has {tuple(shapes[name])}. "
                "Use the checkpoint it was trained on, or train again."
            )
    for name, vectors in concept.tokens.items():
        if token_widths.get(name) != vectors.shape[1]:
            raise UserInputError(
                f"The concept's vectors for {name} are {vectors.shape[1]} wide, this CLIP has {dict(token_widths)}. "
                "Connect the CLIP of the checkpoint it was trained on."
            )
    if set(concept.tokens) != set(token_widths):
        raise UserInputError(
            f"The concept has vectors for {sorted(concept.tokens)}, this CLIP has the text encoders {sorted(token_widths)}. "
            "Connect the CLIP of the checkpoint it was trained on."
        )


def _projection(module: str) -> str:
    return module.partition(".to_")[2]
