"""Read the host's weights without touching them: originals, patched clones, K/V names and hashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import comfy.lora
import comfy.utils
import torch
from comfy.model_patcher import get_key_weight
from torch import Tensor

from ...dci_core.concept.concept import key_value_hash
from ...dci_core.errors import UserInputError
from ...dci_core.fingerprint import tensors_hash
from .quantised import converter_of, is_plain, private_copy, quantisation_of, stored_tensors

Entry = list[Any]
UNET_PREFIX = "diffusion_model."
KEY_VALUE = ("to_k", "to_v")
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
"""All of a cross-attention layer whose weights a concept may change."""


def weight_entry(patcher: Any, key: str) -> Entry:
    """Return the host's entry for one weight: the original and its converter, then the patches on it.

    It is what the host's ``get_key_patches`` gives, which cannot name the weights of a model with quantised layers.

    Raises:
        UserInputError: the model lacks the weight.
    """
    try:
        weight, _, convert = get_key_weight(patcher.model, key)
    except AttributeError:
        weight = convert = None
    if weight is None:
        raise UserInputError(f"The model lacks the weight {key.removeprefix(UNET_PREFIX)}. Load a complete checkpoint.")
    if key in patcher.backup:
        weight = patcher.backup[key].weight
    if key in patcher.hook_backup:
        weight = patcher.hook_backup[key][0]
    return [(weight, converter_of(key, _module(patcher, key), convert)), *patcher.patches.get(key, [])]


def weight_keys(patcher: Any, prefix: str = "") -> list[str]:
    """Return the keys of all weights below a prefix, in the host's order; scales of quantised layers are no weights."""
    return [key for key in patcher.model_state_dict() if key.startswith(prefix) and _exists(patcher, key)]


def cross_attention_weights(model: Any, projections: Sequence[str]) -> list[str]:
    """Return the module names of the given projections ("to_k" …) of all cross-attention layers, in the host's order."""
    wanted = tuple(f".attn2.{projection}" for projection in projections)
    return [name for name, _ in model.model.named_modules() if name.startswith(UNET_PREFIX) and name.endswith(wanted)]


def cross_attention_shapes(model: Any) -> dict[str, tuple[int, int]]:
    """Return the shape of every cross-attention projection's weight, [out, in], by module name."""
    layers = {name: model.model.get_submodule(name) for name in cross_attention_weights(model, PROJECTIONS)}
    return {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}


def key_value_weights(model: Any) -> dict[str, Tensor]:
    """Return the unpatched K and V weights of all cross-attention layers, by module name, in plain numbers.

    Those that are not quantised are the host's own: read them, do not keep or change them.
    """
    return {name: _unpatched(model, f"{name}.weight") for name in cross_attention_weights(model, KEY_VALUE)}


def unpatched_weights(model: Any, keys: Iterable[str]) -> dict[str, Tensor]:
    """Return weights without what is patched onto them, by key, in plain numbers; read them, do not keep or change them.

    Raises:
        UserInputError: the model lacks one, or it is quantised in a way that cannot be turned back.
    """
    return {key: _unpatched(model, key) for key in keys}


def check_readable(model: Any) -> None:
    """Refuse a model whose weights are no numbers, by its first K; at no cost.

    Raises:
        UserInputError: the weight is quantised in a way that cannot be turned back.
    """
    for name in cross_attention_weights(model, KEY_VALUE)[:1]:
        _unpatched(model, f"{name}.weight")


def key_value_quantisation(model: Any) -> str:
    """Return the formats in which a model keeps its K and V, such as "float8_e4m3fn"; "" where they are plain numbers."""
    originals = _key_value_originals(model)
    formats = {quantisation_of(model.model.get_submodule(name), weight) for name, weight in originals.items()}
    return ", ".join(sorted(formats - {""}))


def base_hash(model: Any) -> str:
    """Return the hash that ties a concept to its base: of the unpatched K and V weights, as they are kept."""
    originals = _key_value_originals(model)
    return key_value_hash(part for name, weight in originals.items() for part in stored_tensors(name, weight))


def patched_hash(patcher: Any, without: tuple[str, ...] = ()) -> str:
    """Return the hash of all weights of a patcher, with the patches that lie on them, but for those named in ``without``."""
    return tensors_hash(
        part for key in weight_keys(patcher) if key not in without for part in _hashed(key, weight_entry(patcher, key))
    )


def patched_weight(key: str, entry: Entry, dtype: torch.dtype | None = None) -> Tensor:
    """Return a private copy of one weight in plain numbers, with the patcher's LoRAs applied, on the CPU.

    Call it outside inference mode: the copy is then a normal tensor that autograd may save.

    Args:
        key: of the weight in the patched model.
        entry: see ``weight_entry``.
        dtype: of the copy; None keeps the weight's own.

    Raises:
        UserInputError: the weight is quantised in a way that cannot be turned back.
    """
    original, convert = entry[0]
    weight: Tensor = convert(private_copy(original), inplace=True)
    if len(entry) > 1:
        weight = comfy.lora.calculate_weight(entry[1:], weight.float(), key).to(weight.dtype)
    return weight if dtype is None else weight.to(dtype)


def patched_weights(patcher: Any, prefix: str) -> Mapping[str, Tensor]:
    """Return private copies of all weights below a prefix, by name without it."""
    keys = weight_keys(patcher, prefix)
    return {key.removeprefix(prefix): patched_weight(key, weight_entry(patcher, key)) for key in keys}


def _key_value_originals(model: Any) -> dict[str, Tensor]:
    """Return each K and V weight as the host keeps it, unpatched, by module name."""
    names = cross_attention_weights(model, KEY_VALUE)
    return {name: weight_entry(model, f"{name}.weight")[0][0] for name in names}


def _unpatched(patcher: Any, key: str) -> Tensor:
    entry = weight_entry(patcher, key)
    original: Tensor = entry[0][0]
    return original if is_plain(original) else patched_weight(key, entry[:1])


def _hashed(key: str, entry: Entry) -> Iterator[tuple[str, Tensor]]:
    if len(entry) == 1:
        yield from stored_tensors(key, entry[0][0])
    else:
        yield key, patched_weight(key, entry)


def _module(patcher: Any, key: str) -> Any:
    parent = key.rpartition(".")[0]
    return comfy.utils.get_attr(patcher.model, parent) if parent else patcher.model


def _exists(patcher: Any, key: str) -> bool:
    try:
        return get_key_weight(patcher.model, key)[0] is not None
    except AttributeError:
        return False
