"""The concept file: one safetensors, written atomically, checked completely before anything is used.

Keys are chosen so that other programs can read them as well: ``<module>.diff`` is what LoRA loaders
know as a weight difference, and a tensor named after its text encoder (``clip_l``) is an embedding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
from torch import Tensor

from .concept import FORMAT_VERSION, TEXT_ENCODERS, Concept, ConceptInfo
from .errors import UserInputError
from .ico import ICOScheme
from .tensor_file import check_content, damaged, read_tensors, write_tensors

FORMAT = "dci_concept"
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_DIFFERENCE = ".diff"
_CONTEXTS = "image_contexts."
_CROSS_ATTENTION = re.compile(r"diffusion_model\.[\w.]+\.attn2\.to_(k|v|q|out\.0)")
_LATER = ("training_key", "dataset_hash", "versions", "history", "thumbnail")  # files of 0.1.0 may lack them
_OBJECTS = ("settings", "versions", "history")
_INTEGERS = ("prefix", "suffix", "concept_vectors", "steps", "seed", "format_version")


def save_concept(concept: Concept, path: Path, precision: str = "float16") -> None:
    """Write a concept; the file appears complete under its name or not at all.

    Args:
        concept: what to write.
        path: target ending in .safetensors; an existing file is replaced.
        precision: of the K/V deltas: "float16", "bfloat16" or "float32". Vectors stay float32.

    Raises:
        UserInputError: a wrong precision or file ending, or a tensor that cannot be written in that precision.
    """
    if precision not in PRECISIONS:
        raise UserInputError(f"precision must be one of {', '.join(PRECISIONS)}, but got {precision!r}.")
    if path.suffix != ".safetensors":
        raise UserInputError(f"A concept file ends in .safetensors, but got {path.name!r}.")
    given = {name + _DIFFERENCE: delta for name, delta in concept.key_value_deltas.items()}
    given |= {**concept.tokens} | {_CONTEXTS + name: vectors for name, vectors in (concept.contexts or {}).items()}
    tensors = {
        name: tensor.detach()
        .cpu()
        .to(PRECISIONS[precision] if name.endswith(_DIFFERENCE) else torch.float32)
        .contiguous()
        for name, tensor in given.items()
    }
    for name, tensor in tensors.items():
        _check_storable(name, tensor, given[name], precision)
    write_tensors(path, tensors, _to_metadata(concept.info))


def load_concept(path: Path) -> Concept:
    """Read a concept and check every key, shape and value; nothing is unpickled.

    Raises:
        UserInputError: the file is missing, truncated, foreign, newer than this code, or was changed by hand.
    """
    if not path.is_file():
        raise UserInputError(f"There is no concept file {path.name}. Choose one of the list, or train and save one.")
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise UserInputError(
            f"{path.name} is a safetensors file, but not a DCI concept. Choose a file made by Save Concept."
        )
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise UserInputError(
            f"{path.name} has concept format {metadata.get('format_version')}, this version reads {FORMAT_VERSION}. "
            "Update the node pack."
        )
    info = _from_metadata(path, check_content(path, tensors, metadata))
    deltas = {k.removesuffix(_DIFFERENCE): v for k, v in tensors.items() if k.endswith(_DIFFERENCE)}
    tokens = {k: v for k, v in tensors.items() if k in TEXT_ENCODERS}
    contexts = {k.removeprefix(_CONTEXTS): v for k, v in tensors.items() if k.startswith(_CONTEXTS)}
    unknown = set(tensors) - {k + _DIFFERENCE for k in deltas} - set(tokens) - {_CONTEXTS + k for k in contexts}
    if unknown:
        raise damaged(path, f"it holds the unknown tensor {sorted(unknown)[0]!r}")
    _check_tensors(path, info, deltas, tokens, contexts)
    return Concept({k: v.float() for k, v in deltas.items()}, tokens, info, contexts or None)


def _check_storable(name: str, stored: Tensor, given: Tensor, precision: str) -> None:
    if torch.isfinite(stored).all():
        return
    if torch.isfinite(given).all():
        raise UserInputError(
            f"{name} holds values too large for {precision}. Save in float32, or train with a lower rate."
        )
    raise UserInputError(f"{name} holds values that are not finite: the training diverged. Train with a lower rate.")


def _check_tensors(
    path: Path,
    info: ConceptInfo,
    deltas: Mapping[str, Tensor],
    tokens: Mapping[str, Tensor],
    contexts: Mapping[str, Tensor],
) -> None:
    if not tokens:
        raise damaged(path, "it has no concept vectors")
    for name, delta in deltas.items():
        if not _CROSS_ATTENTION.fullmatch(name) or delta.ndim != 2:
            raise damaged(path, f"{name} {tuple(delta.shape)} is not a cross-attention weight")
        layer = name.rpartition(".attn2.")[0]
        key, value = f"{layer}.attn2.to_k", f"{layer}.attn2.to_v"
        if key not in deltas or value not in deltas or deltas[key].shape != deltas[value].shape:
            raise damaged(path, f"{name} has no matching {key if name != key else value}")
    for name, vectors in tokens.items():
        if vectors.ndim != 2 or vectors.shape[0] != info.concept_vectors:
            raise damaged(
                path, f"{name} has shape {tuple(vectors.shape)}, its metadata promises {info.concept_vectors} vectors"
            )
    for name, vectors in contexts.items():
        expected = (info.prefix + info.suffix, tokens[name].shape[1]) if name in tokens else None
        if vectors.ndim != 3 or tuple(vectors.shape[1:]) != expected:
            raise damaged(path, f"{_CONTEXTS}{name} has the wrong shape {tuple(vectors.shape)}")
    for group in (deltas, tokens, contexts):
        for name, tensor in group.items():
            if tensor.dtype not in PRECISIONS.values() or not torch.isfinite(tensor).all():
                raise damaged(path, f"{name} holds values that are not finite {' or '.join(PRECISIONS)} numbers")


def _to_metadata(info: ConceptInfo) -> dict[str, str]:
    values = {name: value for name, value in asdict(info).items() if value or name not in _LATER}
    return {"format": FORMAT} | {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in values.items()
    }


def _from_metadata(path: Path, metadata: Mapping[str, str]) -> ConceptInfo:
    values: dict[str, object] = {}
    for entry in fields(ConceptInfo):
        if entry.name in metadata:
            values[entry.name] = metadata[entry.name]
        elif entry.name not in _LATER:
            raise damaged(path, f"its metadata lacks {entry.name!r}")
    try:
        values |= {name: int(metadata[name]) for name in _INTEGERS}
        values |= {name: json.loads(metadata[name]) for name in _OBJECTS if name in metadata}
        info = ConceptInfo(**values)  # type: ignore[arg-type]
        ICOScheme(info.prefix, info.suffix, info.concept_vectors)
    except ValueError as error:
        raise damaged(path, f"its metadata cannot be read ({error})") from error
    return info
