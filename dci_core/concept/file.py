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

from ..errors import UserInputError
from ..families import TEXT_ENCODERS
from ..tensor_file import check_content, damaged, read_tensors, write_tensors
from .concept import FORMAT_VERSION, Concept, ConceptInfo
from .low_rank import low_rank_factors, relative_error
from .modelspec import modelspec_of
from .scheme import ICOScheme

FORMAT = "dci_concept"
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_DIFFERENCE = ".diff"
_UP, _DOWN = ".lora_up.weight", ".lora_down.weight"
_CONTEXTS = "image_contexts."
_CROSS_ATTENTION = re.compile(r"diffusion_model\.[\w.]+\.attn2\.to_(k|v|q|out\.0)")
_LATER = ("training_key", "dataset_hash", "versions", "history", "prediction", "thumbnail")  # written where known
_OBJECTS = ("settings", "versions", "history")
_INTEGERS = ("prefix", "suffix", "concept_vectors", "steps", "seed", "format_version")


def save_concept(concept: Concept, path: Path, precision: str = "float16", rank: int = 0) -> float:
    """Write a concept; the file appears complete under its name or not at all.

    Args:
        concept: what to write.
        path: target ending in .safetensors; an existing file is replaced.
        precision: of the K/V deltas: "float16", "bfloat16" or "float32". Vectors stay float32.
        rank: 0 writes whole deltas; above, two factors of this rank each, as LoRA loaders know them.

    Returns:
        The relative error of the stored deltas, see ``low_rank.relative_error``.

    Raises:
        UserInputError: a wrong precision or file ending, or a tensor that cannot be written in that precision.
    """
    if precision not in PRECISIONS:
        raise UserInputError(f"precision must be one of {', '.join(PRECISIONS)}, but got {precision!r}.")
    if path.suffix != ".safetensors":
        raise UserInputError(f"A concept file ends in .safetensors, but got {path.name!r}.")
    deltas = {name: delta.detach().cpu().float() for name, delta in concept.deltas.items()}
    for name, delta in deltas.items():
        _check_finite(name, delta)
    given = _factors(deltas, rank) if rank else {name + _DIFFERENCE: delta for name, delta in deltas.items()}
    changes = {name: tensor.to(PRECISIONS[precision]).contiguous() for name, tensor in given.items()}
    vectors = {**concept.tokens} | {_CONTEXTS + name: some for name, some in (concept.contexts or {}).items()}
    tensors = changes | {name: some.detach().cpu().float().contiguous() for name, some in vectors.items()}
    for name, tensor in tensors.items():
        _check_finite(name, {**given, **vectors}[name])
        if not torch.isfinite(tensor).all():
            raise UserInputError(
                f"{name} holds values too large for {precision}. Save in float32, or train with a lower rate."
            )
    write_tensors(path, tensors, _to_metadata(concept.info, bool(concept.deltas)))
    return relative_error(deltas, _deltas_of(changes))


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
    changes = {k: v for k, v in tensors.items() if k.endswith((_DIFFERENCE, _UP, _DOWN))}
    _check_factors(path, changes)
    deltas = _deltas_of(changes)
    tokens = {k: v for k, v in tensors.items() if k in TEXT_ENCODERS}
    contexts = {k.removeprefix(_CONTEXTS): v for k, v in tensors.items() if k.startswith(_CONTEXTS)}
    unknown = set(tensors) - set(changes) - set(tokens) - {_CONTEXTS + k for k in contexts}
    if unknown:
        raise damaged(path, f"it holds the unknown tensor {sorted(unknown)[0]!r}")
    _check_tensors(path, info, deltas, tokens, contexts)
    return Concept({k: v.float() for k, v in deltas.items()}, tokens, info, contexts or None)


def _factors(deltas: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    factors = {}
    for name, delta in deltas.items():
        factors[name + _UP], factors[name + _DOWN] = low_rank_factors(delta, rank)
    return factors


def _deltas_of(changes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each change as one matrix; factors are multiplied in float32."""
    deltas = {k.removesuffix(_DIFFERENCE): v for k, v in changes.items() if k.endswith(_DIFFERENCE)}
    modules = (k.removesuffix(_UP) for k in changes if k.endswith(_UP))
    return deltas | {name: changes[name + _UP].float() @ changes[name + _DOWN].float() for name in modules}


def _check_factors(path: Path, changes: Mapping[str, Tensor]) -> None:
    for name, factor in changes.items():
        for ending, other in ((_UP, _DOWN), (_DOWN, _UP)):
            if not name.endswith(ending):
                continue
            module = name.removesuffix(ending)
            twin = changes.get(module + other)
            up, down = (factor, twin) if ending == _UP else (twin, factor)
            if up is None or down is None or up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
                raise damaged(path, f"{name} has no matching {module + other}")
            if module + _DIFFERENCE in changes:
                raise damaged(path, f"it changes {module} twice")


def _check_finite(name: str, given: Tensor) -> None:
    if not torch.isfinite(given).all():
        raise UserInputError(
            f"{name} holds values that are not finite: the training diverged. Train with a lower rate."
        )


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


def _to_metadata(info: ConceptInfo, changes_weights: bool) -> dict[str, str]:
    values = {name: value for name, value in asdict(info).items() if value or name not in _LATER}
    own = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in values.items()
    }
    own.pop("thumbnail", None)  # it stands where other programs look for it
    return {"format": FORMAT} | own | modelspec_of(info, changes_weights)


def _from_metadata(path: Path, metadata: Mapping[str, str]) -> ConceptInfo:
    values: dict[str, object] = {}
    for entry in fields(ConceptInfo):
        if entry.name == "thumbnail":
            values[entry.name] = metadata.get("modelspec.thumbnail", "")
        elif entry.name in metadata:
            values[entry.name] = metadata[entry.name]
        elif entry.name not in _LATER:
            raise damaged(path, f"its metadata lacks {entry.name!r}")
    try:
        values |= {name: int(metadata[name]) for name in _INTEGERS}
        values |= {name: json.loads(metadata[name]) for name in _OBJECTS if name in metadata}
        info = ConceptInfo(**values)  # type: ignore[arg-type]  # each made of its kind above
        ICOScheme(info.prefix, info.suffix, info.concept_vectors)
    except ValueError as error:
        raise damaged(path, f"its metadata cannot be read ({error})") from error
    return info
