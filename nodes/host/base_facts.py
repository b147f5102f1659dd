"""What a MODEL and its CLIP are besides their checkpoint: how they predict, their CLIP layer, and what lies on their weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import comfy.model_sampling
from torch import Tensor
from torch.nn import Module

from ...dci_core.concept.base import UNPATCHED, BaseFacts
from ...dci_core.concept.concept import Concept, ConceptInfo
from ...dci_core.fingerprint import tensors_hash
from ...dci_core.prediction import Prediction
from .quantised import stored_tensors
from .tokenizer import tokenizers_of
from .weights import base_hash


class ConceptPatch(tuple[Any, ...]):
    """A concept's change of a weight, as the host takes it: known again among the patches of LoRAs."""


def concept_patches(concept: Concept) -> dict[str, ConceptPatch]:
    """Return a concept's changes for the host's ``add_patches``."""
    return {f"{name}.weight": ConceptPatch(("diff", (delta,))) for name, delta in concept.deltas.items()}


def base_facts(model: Any, clip: Any) -> BaseFacts:
    """Return what a training on these is to remember of them."""
    return BaseFacts(
        base_hash=base_hash(model),
        prediction=_prediction(model),
        clip_layer=_clip_layer(clip),
        model_patches=_patches(model),
        clip_patches=_patches(clip.patcher),
    )


def base_facts_beside(model: Any, clip: Any, then: ConceptInfo) -> BaseFacts:
    """Return what these are, to be compared with what a concept was trained on.

    A concept that lies on the model and did not lie there in the training is not counted: two in one picture are meant.
    """
    return BaseFacts(
        base_hash=base_hash(model),
        prediction=_prediction(model),
        clip_layer=_clip_layer(clip),
        model_patches=_patches_beside(model, then.model_patches),
        clip_patches=_patches_beside(clip.patcher, then.clip_patches),
    )


def _prediction(model: Any) -> str:
    sampling = model.get_model_object("model_sampling")
    kinds = [kind for kind in type(sampling).__mro__ if kind.__module__ == comfy.model_sampling.__name__]
    known = {comfy.model_sampling.EPS: Prediction.EPSILON.value, comfy.model_sampling.V_PREDICTION: Prediction.V.value}
    other = next((kind for kind in kinds if not issubclass(kind, Module)), type(sampling))
    return known.get(other, other.__name__)


def _clip_layer(clip: Any) -> int | None:
    """Return the layer that CLIP Set Last Layer has chosen, else the text encoder's own; None where it does not say."""
    if clip.layer_idx is not None:
        return int(clip.layer_idx)
    encoder = getattr(clip.cond_stage_model, next(iter(tokenizers_of(clip)), ""), None)
    layer, number, *_ = getattr(encoder, "options_default", ("", None))
    return -1 if layer == "last" else number


def _patches_beside(patcher: Any, then: str) -> str:
    if not then:
        return ""
    every = _patches(patcher)
    return every if every == then else _patches(patcher, concepts=False)


def _patches(patcher: Any, concepts: bool = True) -> str:
    """Return the number of weights that patches change, and the hash of those patches; see ``BaseFacts``.

    The host keeps no names of LoRAs; their tensors and strengths are what is hashed.
    """
    found = {
        key: [patch for patch in patches if _changes(patch) and (concepts or not isinstance(patch[1], ConceptPatch))]
        for key, patches in patcher.patches.items()
    }
    changed = {key: patches for key, patches in found.items() if patches}
    if not changed:
        return UNPATCHED
    tensors = (entry for key, patches in changed.items() for entry in _named_tensors(key, patches))
    return f"{len(changed)} {tensors_hash(tensors)}"


def _changes(patch: tuple[Any, ...]) -> bool:
    """Return whether a patch (strength, value, strength of the weight, …) changes anything."""
    return bool(patch[0] != 0.0 or patch[2] != 1.0)


def _named_tensors(key: str, patches: list[tuple[Any, ...]]) -> Iterator[tuple[str, Tensor]]:
    """Return the tensors of one weight's patches, each named by all that is no tensor."""
    for number, patch in enumerate(patches):
        parts = list(_parts(patch))
        plain = json.dumps([str(part) for part in parts if not isinstance(part, Tensor)])
        tensors = [part for part in parts if isinstance(part, Tensor)]
        for place, tensor in enumerate(tensors):
            yield from stored_tensors(f"{key} {number} {place} {plain}", tensor)


def _parts(value: Any) -> Iterator[Any]:
    """Return the tensors and plain values of a patch, in their order; functions are passed over."""
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _parts(entry)
    elif isinstance(value, (Tensor, str, int, float)):
        yield value
    elif hasattr(value, "weights"):  # the host's class for a kind of LoRA
        yield type(value).__name__
        yield from _parts(value.weights)
