"""A concept as diffusers keeps those of Custom Diffusion: whole weights in one file, the vectors in another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .concept import Concept
from .exchange import Exported, ExportedFile, described, embedding_file, in_precision
from .layer_names import diffusers_name, family_named
from .low_rank import relative_error

DIFFUSERS = "diffusers"
"""The host's model folder that the files belong into, in one of their own."""
WEIGHTS_FILE = "pytorch_custom_diffusion_weights.safetensors"
EMBEDDING_FILE = "learned_embeds.safetensors"
"""The names that diffusers looks for by itself."""
MARK = "_custom_diffusion"
_OUT = "to_out.0"


def needed_weights(concept: Concept) -> list[str]:
    """Return the host's names of the base's weights that ``diffusers_layout`` takes."""
    changed = [f"{name}.weight" for name in concept.deltas]
    return changed + [f"{name}.bias" for name in concept.deltas if name.endswith(_OUT)]


def diffusers_layout(
    concept: Concept, weights: Mapping[str, Tensor], precision: str = "float32", told: bool = True
) -> Exported:
    """Return a concept as two files that diffusers reads with ``load_attn_procs`` and ``load_textual_inversion``.

    Each self-attention layer has an empty entry: diffusers wants all attention layers or none.

    Args:
        concept: to be exported; a textual inversion is its vectors alone.
        weights: of the base that the changes are added to, those of ``needed_weights``.
        precision: of the weights, one of ``PRECISIONS``.
        told: whether the files say what ModelSpec has fields for.

    Raises:
        UserInputError: a family that is not known, or values that the precision cannot hold.
    """
    vectors = embedding_file(concept, DIFFUSERS, f"/{EMBEDDING_FILE}", told)
    if not concept.deltas:
        return Exported((vectors,), None)
    family = family_named(concept.info.family)
    tensors: dict[str, Tensor] = {}
    given: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}
    for name, delta in concept.deltas.items():
        layer, _, projection = diffusers_name(name, family).partition(".attn2.")
        base = weights[f"{name}.weight"].detach().cpu().float()
        whole = in_precision(name, base + delta.detach().cpu().float(), precision)
        given[name], kept[name] = delta.detach().cpu().float(), whole.float() - base
        kind, _, part = projection.partition(".")
        key = f"{layer}.attn2.processor.{kind}{MARK}{'.' + part if part else ''}"
        tensors[f"{key}.weight"] = whole
        if projection == _OUT:
            tensors[f"{key}.bias"] = in_precision(name, weights[f"{name}.bias"].detach().cpu(), precision)
        tensors[f"{layer}.attn1.processor"] = torch.zeros(0)
    file = ExportedFile(
        DIFFUSERS,
        f"/{WEIGHTS_FILE}",
        tensors,
        described(concept, True, told),
        concept.info.class_noun if told else "",
    )
    return Exported((file, vectors), relative_error(given, kept))
