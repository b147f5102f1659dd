"""What a model patcher holds, so that a test can tell whether anything of it changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def snapshot(value: Any) -> Any:
    """Return the structure of a value, tensors by identity and content, callables by identity."""
    if isinstance(value, dict):
        return {key: snapshot(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [snapshot(entry) for entry in value]
    if isinstance(value, Tensor):
        return (id(value), value.dtype, value.shape, value.double().sum().item())
    return value if isinstance(value, (int, float, str, type(None))) else id(value)


def patcher_state(model: Any) -> dict[str, Any]:
    fields = ("patches", "object_patches", "model_options", "wrappers", "callbacks", "injections", "hook_patches")
    weights = {key: weight.clone() for key, weight in model.model.state_dict().items()}
    return {name: snapshot(getattr(model, name)) for name in fields} | {"weights": weights}


def assert_unchanged(model: Any, before: dict[str, Any]) -> None:
    after = patcher_state(model)
    weights, earlier = after.pop("weights"), before.pop("weights")
    assert after == before
    assert all(torch.equal(weights[key], earlier[key]) for key in earlier) and weights.keys() == earlier.keys()
