"""What files of other programs say of a concept: weights of cross-attention layers, and vectors of words.

Known are textual inversions and Custom Diffusion of diffusers, embeddings of AUTOMATIC1111 and of the host, Custom Diffusion's own
``delta.ckpt`` and ``delta.bin``, whole or compressed, and what the authors' code of DCI writes (``embeddings_gs-….ckpt``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..families import TEXT_ENCODERS, Family
from .diffusers_layout import MARK
from .foreign_file import read_foreign, unusable
from .layer_names import host_name

CLIP_VOCABULARY = 49408
"""Words of CLIP; rows of a table behind them are those that were added."""
_TABLES = (
    "transformer.text_model.embeddings.token_embedding.weight",
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
)
_OF_LORA = re.compile(r"\.(lora_\w+|alpha|hada_\w+|lokr_\w+|diff|lora_[AB])(\.weight)?$|[._]lora\.(up|down)\.")
_OF_ATTENTION = re.compile(r"[._]attn[12][._]")
_CHANGED = re.compile(r"\.attn2\.(to_k|to_v|to_q|to_out\.0)\.(weight|bias)$")
_OF_AN_EMBEDDING = {"string_to_token", "string_to_param", "name", "step", "sd_checkpoint", "sd_checkpoint_name"}
_CURE = (
    "Choose a textual inversion or Custom Diffusion file of diffusers, an embedding, Custom Diffusion's delta file, or one of the "
    "authors' code of DCI."
)


@dataclass(frozen=True)
class Foreign:
    """What was found.

    Args:
        weights: whole weights of cross-attention projections, [out, in], by the host's name of the projection.
        changes: changes of such weights, the same.
        biases: of output projections, [out]; a concept cannot hold them.
        words: vectors of each word, [S, D] by text encoder.
    """

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    changes: Mapping[str, Tensor] = field(default_factory=dict)
    biases: Mapping[str, Tensor] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def foreign_concept(path: Path, family: Family) -> Foreign:
    """Read a file of another program.

    Args:
        path: of the file.
        family: of the model it is for.

    Raises:
        UserInputError: it cannot be read, or holds anything that a concept cannot.
    """
    content = read_foreign(path)
    words: dict[str, Any] = {}
    if "string_to_param" in content:
        _allow_only(path, content, _OF_AN_EMBEDDING)
        words = dict(_dict_in(path, content, "string_to_param"))
        if len(words) == 1 and content.get("name"):
            words = {str(content["name"]): next(iter(words.values()))}
        content = {}
    elif "unet" in content or "modifier_token" in content:
        _allow_only(path, content, {"unet", "modifier_token"})
        words = dict(_dict_in(path, content, "modifier_token"))
        content = dict(_dict_in(path, content, "unet"))
    elif isinstance(content.get("state_dict"), dict):
        _allow_only(path, content, {"state_dict"})
        content = content["state_dict"]
    content = {str(name): value for name, value in content.items()}
    layers = {name: value for name, value in content.items() if _OF_ATTENTION.search(name)}
    if not words:
        words = _words_of(path, {name: value for name, value in content.items() if name not in layers}, bool(layers))
    found = _layers_of(path, layers, family)
    return Foreign(**found, words={word: _vectors(path, word, value, family) for word, value in words.items()})


def _allow_only(path: Path, content: Mapping[str, Any], allowed: set[str]) -> None:
    others = sorted(str(name) for name in content if name not in allowed)
    if others == ["text_encoder"] or others == ["text_encoder", "text_encoder_2"]:
        raise unusable(path, "it holds a trained text encoder, and a concept cannot", "Train without it.")
    if others:
        raise unusable(path, f"it holds {others[0]!r} too", _CURE)


def _dict_in(path: Path, content: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise unusable(path, f"{name!r} in it holds no names", _CURE)
    return [(str(key), entry) for key, entry in value.items()]


def _words_of(path: Path, content: Mapping[str, Any], beside_layers: bool) -> dict[str, Any]:
    """Return the vectors of each word of a file without marks of its own."""
    if content and set(content) <= set(TEXT_ENCODERS):
        return {path.stem: dict(content)}
    if any(_OF_LORA.search(name) for name in content):
        raise unusable(
            path, "it is a LoRA", "Load it with LoraLoader: DCI works with it as it is (template lora_dial)."
        )
    for table in _TABLES:
        if isinstance(content.get(table), Tensor) and len(content) == 1:
            return _numbered(content[table][CLIP_VOCABULARY:])
    if set(content) == {"embed"} and isinstance(content["embed"], Tensor) and content["embed"].ndim:
        return _numbered(content["embed"].reshape(-1, content["embed"].shape[-1]))
    if beside_layers and content:
        raise unusable(path, f"it holds {sorted(content)[0]!r} too", _CURE)
    return dict(content)


def _numbered(rows: Tensor) -> dict[str, Any]:
    """Return rows by the names that Custom Diffusion gives its words."""
    return {f"<new{number}>": row for number, row in enumerate(rows, 1)}


def _vectors(path: Path, word: str, value: Any, family: Family) -> dict[str, Tensor]:
    """Return the vectors of a word by text encoder, [S, D], in float32."""
    if isinstance(value, dict):
        given = value
    elif isinstance(value, list):
        given = dict(zip(family.text_encoders, value)) if len(value) == len(family.text_encoders) else {}
    else:
        given = {family.text_encoders[0]: value} if len(family.text_encoders) == 1 else {}
    if set(given) != set(family.text_encoders):
        count = len(value) if isinstance(value, (dict, list)) else 1
        raise unusable(
            path,
            f"{word!r} in it has vectors for {count} text encoder{'' if count == 1 else 's'}, and this {family.name} model has "
            f"{', '.join(family.text_encoders)}",
            "Connect a model of the family it was trained on.",
        )
    vectors = {}
    for encoder, rows in given.items():
        if not isinstance(rows, Tensor) or rows.ndim not in (1, 2) or not rows.is_floating_point() or not rows.numel():
            raise unusable(path, f"{word!r} in it is no vector", _CURE)
        if not torch.isfinite(rows).all():
            raise unusable(path, f"{word!r} in it holds values that are not finite", "Get the file anew.")
        vectors[encoder] = torch.atleast_2d(rows).float().contiguous()
    return vectors


def _layers_of(path: Path, layers: Mapping[str, Any], family: Family) -> dict[str, dict[str, Tensor]]:
    """Return weights, changes and biases of layers by the host's names."""
    found: dict[str, dict[str, Tensor]] = {"weights": {}, "changes": {}, "biases": {}}
    for name, value in layers.items():
        if name.endswith(".processor") and isinstance(value, (dict, Tensor)) and not len(value):
            continue  # a self-attention layer that diffusers wants to see mentioned
        plain = name.replace(".processor.", ".").replace(MARK, "")
        match = _CHANGED.search(plain)
        if _OF_LORA.search(name):
            raise unusable(
                path, "it is a LoRA", "Load it with LoraLoader: DCI works with it as it is (template lora_dial)."
            )
        try:
            module = host_name(plain[: match.start(2) - 1], family) if match else ""
        except ValueError as error:
            raise unusable(path, str(error), _CURE) from error
        kind, tensor = _tensor_of(value)
        if match is None or tensor is None or tensor.ndim != (1 if match[2] == "bias" else 2):
            raise unusable(path, f"{name!r} in it is no weight of a cross-attention layer's projections", _CURE)
        if not torch.isfinite(tensor).all():
            raise unusable(path, f"{name!r} in it holds values that are not finite", "Get the file anew.")
        found["biases" if match[2] == "bias" else kind][module] = tensor.float()
    return found


def _tensor_of(value: Any) -> tuple[str, Tensor | None]:
    """Return a layer's tensor, and whether it is a whole weight or a change: that is kept as the factors u and v."""
    if isinstance(value, dict):
        u, v = value.get("u"), value.get("v")
        if set(value) == {"u", "v"} and isinstance(u, Tensor) and isinstance(v, Tensor) and u.ndim == v.ndim == 2:
            return "changes", u.float() @ v.float() if u.shape[1] == v.shape[0] else None
        return "changes", None
    return "weights", value if isinstance(value, Tensor) and value.is_floating_point() else None
