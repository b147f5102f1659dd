"""LoRA of every kind for tiny models, and the weights that each branch's forwards were run with."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY
from scenes import Scene, scene
from torch import Tensor

AUXILIARY, OTHERS = "auxiliary", "others"
Seen = list[tuple[str, dict[str, Tensor]]]
"""Of each forward: whose it was, and a copy of its weights by name."""
KINDS = ("lora", "dora", "loha", "lokr", "oft", "boft", "diff", "set")


def keys_of(model: Any) -> list[str]:
    """Return the names of weights that a LoRA on all attention layers of the first block changes."""
    names = [key for key in model.model.state_dict() if "transformer_blocks.0.attn" in key and key.endswith(".weight")]
    block = names[0].split(".transformer_blocks")[0]
    return [key for key in names if key.startswith(block)]


def lora_file(model: Any, kind: str = "lora", seed: int = 1, rank: int = 4) -> dict[str, Tensor]:
    """Return the file of an adapter that changes a model a lot."""
    generator = torch.Generator().manual_seed(seed)
    weights = model.get_key_patches()  # the module's own may have another model's LoRA merged in
    file: dict[str, Tensor] = {}
    for key in keys_of(model):
        layer, weight = key.removesuffix(".weight"), weights[key][0][0]
        file |= {f"{layer}.{name}": tensor for name, tensor in _adapter(kind, weight, rank, generator).items()}
    return file


def _adapter(kind: str, weight: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    rows, columns = weight.shape

    def random(*shape: int) -> Tensor:
        return 0.5 * torch.randn(*shape, generator=generator)

    if kind in ("lora", "dora"):
        adapter = {"lora_up.weight": random(rows, rank), "lora_down.weight": random(rank, columns)}
        scale = {"dora_scale": weight.norm(dim=1, keepdim=True).cpu() * 1.5} if kind == "dora" else {}
        return {**adapter, **scale, "alpha": torch.tensor(1.0)}
    if kind == "loha":
        sides = {"a": (rows, rank), "b": (rank, columns)}
        return {f"hada_w{number}_{side}": random(*shape) for number in (1, 2) for side, shape in sides.items()}
    if kind == "lokr":
        return {"lokr_w1": random(4, 4), "lokr_w2": random(rows // 4, columns // 4)}
    if kind == "oft":
        return {"oft_blocks": random(rows // 8, 8, 8), "alpha": torch.tensor(1.0)}
    if kind == "boft":
        return {"oft_blocks": random(2, rows // 8, 8, 8), "alpha": torch.tensor(1.0)}
    return {"diff": random(rows, columns)} if kind == "diff" else {"set_weight": random(rows, columns)}


def with_lora(model: Any, file: dict[str, Tensor], strength: float = 1.0) -> Any:
    """Return what Load LoRA makes of a MODEL."""
    return comfy.sd.load_lora_for_models(model, None, file, strength, 0.0)[0] if strength else model


@cache
def lora_scene(family: str = "mini", kind: str = "lora", strength: float = 0.8) -> tuple[Scene, Any, list[str]]:
    """Return a scene, its bare model with a LoRA, and the names of the weights that it changes."""
    s = scene(family)
    return s, with_lora(s.base.model, lora_file(s.base.model, kind), strength), keys_of(s.base.model)


@torch.inference_mode()
def loaded_weights(model: Any, keys: list[str]) -> dict[str, Tensor]:
    """Return the weights that a model has in a plain run."""
    comfy.model_management.load_models_gpu([model])
    return _copies(model.model, keys)


def watching_weights(model: Any, keys: list[str]) -> tuple[Any, Seen]:
    """Return a clone of the model and the list that collects the weights of each forward."""
    watched, seen = model.clone(), []
    guiders: list[Any] = []

    def call(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guiders.append(executor.class_obj)
        try:
            return executor(*args, **kwargs)
        finally:
            guiders.clear()

    def forward(executor: Any, *args: Any, **kwargs: Any) -> Any:
        options = next(
            arg for arg in (*args, kwargs.get("transformer_options")) if isinstance(arg, dict) and "uuids" in arg
        )
        twins = {cond["uuid"] for cond in guiders[0].conds.get("dci_auxiliary", [])}
        rows = {uuid in twins for uuid in options["uuids"]}
        base = executor.class_obj
        seen.append((AUXILIARY if rows == {True} else OTHERS, _copies(base, keys)))
        return executor(*args, **kwargs)

    watched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "watch", call)
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "watch", forward)
    return watched, seen


def of_branch(seen: Seen, branch: str) -> list[dict[str, Tensor]]:
    """Return the weights of one branch's forwards; there must be some."""
    found = [weights for whose, weights in seen if whose == branch]
    assert found
    return found


def assert_same_weights(found: list[dict[str, Tensor]], expected: dict[str, Tensor], tolerance: float = 0.0) -> None:
    """Each forward had these weights, bit for bit or to a share of the largest."""
    for weights in found:
        for key, weight in weights.items():
            off = (weight - expected[key]).abs().max().item()
            assert off <= tolerance * expected[key].abs().max().item(), (key, off)


def assert_other_weights(found: list[dict[str, Tensor]], expected: dict[str, Tensor]) -> None:
    """Each forward had other weights, all of them."""
    for weights in found:
        assert not any(torch.equal(weight, expected[key]) for key, weight in weights.items())


def _copies(base: Any, keys: list[str]) -> dict[str, Tensor]:
    return {key: comfy.utils.get_attr(base, key).detach().cpu().clone() for key in keys}


def weak(cond: Any, strength: float) -> Any:
    """Return a positive whose auxiliary branch has LoRA at a strength."""
    return [
        [
            text,
            {**options, CARRIED_KEY: dataclasses.replace(options[CARRIED_KEY], lora_strength=strength)}
            if CARRIED_KEY in options
            else options,
        ]
        for text, options in cond
    ]
