"""Read the host's weights without touching them: originals, patched clones, K/V names and hashes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import comfy.lora
import torch
from torch import Tensor

from ...dci_core.concept.concept import key_value_hash
from ...dci_core.errors import UserInputError
from ...dci_core.fingerprint import tensors_hash

Entries = Mapping[str, list[Any]]
UNET_PREFIX = "diffusion_model."
_KEY_VALUE = re.compile(r"diffusion_model\..*\.attn2\.to_[kv]\.weight")


def key_patches(patcher: Any, prefix: str | None = None) -> Entries:
    """Return the host's entry for each weight below a prefix: the original weight and its converter, then the patches on it.

    Raises:
        UserInputError: the host cannot name its own weights; those of quantised layers, whose scales are no attributes.
    """
    try:
        entries: Entries = patcher.get_key_patches(prefix)
    except AttributeError as error:
        raise UserInputError(
            f"The weights of this model cannot be read one by one ({error}). Quantised checkpoints are like this: load an fp16, "
            "bf16 or fp32 file of the same one."
        ) from error
    return entries


def key_value_weights(model: Any) -> dict[str, Tensor]:
    """Return the unpatched K and V weights of all cross-attention layers, by module name.

    The tensors are the host's own: read them, do not keep or change them.
    """
    entries = key_patches(model, UNET_PREFIX)
    return {key.removesuffix(".weight"): value[0][0] for key, value in entries.items() if _KEY_VALUE.fullmatch(key)}


def cross_attention_weights(model: Any, projections: tuple[str, ...]) -> list[str]:
    """Return the module names of the given projections ("to_k" …) of all cross-attention layers, in the host's order."""
    wanted = tuple(f".attn2.{projection}.weight" for projection in projections)
    return [key.removesuffix(".weight") for key in key_patches(model, UNET_PREFIX) if key.endswith(wanted)]


def cross_attention_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every cross-attention projection's weight, by module name."""
    entries = key_patches(model, UNET_PREFIX)
    names = cross_attention_weights(model, ("to_q", "to_k", "to_v", "to_out.0"))
    return {name: tuple(entries[f"{name}.weight"][0][0].shape) for name in names}


def patched_hash(patcher: Any, without: tuple[str, ...] = ()) -> str:
    """Return the hash of all weights of a patcher, with the patches that lie on them, but for those named in ``without``."""
    entries = key_patches(patcher)
    return tensors_hash(
        (key, entry[0][0] if len(entry) == 1 else patched_weight(key, entry))
        for key, entry in entries.items()
        if key not in without
    )


def base_hash(model: Any) -> str:
    """Return the hash that ties a concept to its base: of the unpatched K and V weights."""
    return key_value_hash(key_value_weights(model).items())


def patched_weight(key: str, entry: list[Any], dtype: torch.dtype | None = None) -> Tensor:
    """Return a private copy of one weight with the patcher's LoRAs applied, on the CPU.

    Call it outside inference mode: the copy is then a normal tensor that autograd may save.

    Args:
        key: of the weight in the patched model.
        entry: what ``get_key_patches`` holds for it: the original weight and converter, then patches.
        dtype: of the copy; None keeps the weight's own.
    """
    original, convert = entry[0]
    weight = convert(original.detach().clone().cpu(), inplace=True)
    if len(entry) > 1:
        weight = comfy.lora.calculate_weight(entry[1:], weight.float(), key).to(original.dtype)
    return weight if dtype is None else weight.to(dtype)


def patched_weights(patcher: Any, prefix: str) -> Mapping[str, Tensor]:
    """Return private copies of all weights below a prefix, by name without it."""
    entries = key_patches(patcher, prefix)
    return {key.removeprefix(prefix): patched_weight(key, entry) for key, entry in entries.items()}
