"""The concept file: one safetensors, written atomically, checked completely before anything is used.

Keys are chosen so that other programs can read them as well: ``<module>.diff`` is what LoRA loaders
know as a weight difference, and a tensor named after its text encoder (``clip_l``) is an embedding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserInputError
from ..families import TEXT_ENCODERS
from ..log import LOG
from ..tensor_file import check_content, damaged, read_tensors, write_tensors
from .concept import Concept, ConceptInfo
from .low_rank import low_rank_factors, relative_error
from .metadata import COVERED, COVERED_OF_VERSION, FORMAT, GRAPH, Metadata, info_from, metadata_of

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_DIFFERENCE = ".diff"
_UP, _DOWN = ".lora_up.weight", ".lora_down.weight"
_CONTEXTS = "image_contexts."
_CROSS_ATTENTION = re.compile(r"diffusion_model\.[\w.]+\.attn2\.to_(k|v|q|out\.0)")


def written_size(concept: Concept, precision: str = "float16") -> int:
    """Return how many bytes ``save_concept`` writes of a concept with whole deltas, but for the file's head."""
    vectors = [*concept.tokens.values(), *(concept.contexts or {}).values()]
    deltas = sum(delta.numel() for delta in concept.deltas.values())
    return deltas * PRECISIONS[precision].itemsize + 4 * sum(some.numel() for some in vectors)


def save_concept(
    concept: Concept,
    path: Path,
    precision: str = "float16",
    rank: int = 0,
    kept: Metadata = Metadata.ALL,
    replace: bool = True,
) -> float:
    """Write a concept; the file appears complete under its name or not at all.

    Args:
        concept: what to write.
        path: target ending in .safetensors.
        precision: of the K/V deltas: "float16", "bfloat16" or "float32". Vectors stay float32.
        rank: 0 writes whole deltas; above, two factors of this rank each, as LoRA loaders know them.
        kept: how much the file says about its training; the tensors are the same.
        replace: an existing file; False leaves it alone.

    Returns:
        The relative error of the stored deltas, see ``low_rank.relative_error``.

    Raises:
        UserInputError: a wrong precision or file ending, or a tensor that cannot be written in that precision.
        FileExistsError: there is a file of that name, and it is not to be replaced.
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
    write_tensors(path, tensors, metadata_of(concept, kept), COVERED, replace)
    return relative_error(deltas, _deltas_of(changes))


def load_concept(path: Path, warn: Callable[[str], object] = LOG.warning) -> Concept:
    """Read a concept and check every key, shape and value; nothing is unpickled.

    Args:
        path: of the file.
        warn: is told what the file says about its training in a way that cannot be read; it is left out.

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
    version = str(metadata.get("format_version"))
    if version not in COVERED_OF_VERSION:
        raise UserInputError(
            f"{path.name} has concept format {version}, this version reads {' and '.join(COVERED_OF_VERSION)}. "
            "Update the node pack."
        )
    covered = COVERED_OF_VERSION[version]
    info = info_from(path, check_content(path, tensors, metadata, covered), warn)
    changes = {k: v for k, v in tensors.items() if k.endswith((_DIFFERENCE, _UP, _DOWN))}
    _check_factors(path, changes)
    deltas = _deltas_of(changes)
    tokens = {k: v for k, v in tensors.items() if k in TEXT_ENCODERS}
    contexts = {k.removeprefix(_CONTEXTS): v for k, v in tensors.items() if k.startswith(_CONTEXTS)}
    unknown = set(tensors) - set(changes) - set(tokens) - {_CONTEXTS + k for k in contexts}
    if unknown:
        raise damaged(path, f"it holds the unknown tensor {sorted(unknown)[0]!r}")
    _check_tensors(path, info, deltas, tokens, contexts)
    graph = {name: metadata[name] for name in GRAPH if name in metadata}
    return Concept({k: v.float() for k, v in deltas.items()}, tokens, info, contexts or None, graph)


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
