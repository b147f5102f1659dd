"""Weights for networks of the host, whose layers are created uninitialised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch


@torch.no_grad()
def fill(
    module: torch.nn.Module,
    generator: torch.Generator,
    embedding: float = 0.02,
    fixed: Mapping[str, float] | None = None,
) -> None:
    """Give every parameter random values of a size with which signals neither vanish nor grow.

    Args:
        module: changed in place.
        generator: drawn from for one parameter after the other.
        embedding: deviation of token and position embeddings.
        fixed: values of parameters that are not drawn, by name.
    """
    for name, parameter in module.named_parameters():
        if fixed and name in fixed:
            parameter.fill_(fixed[name])
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise * (embedding if "embedding" in name else parameter[0].numel() ** -0.5))
        else:
            parameter.copy_(0.02 * noise + (1.0 if name.endswith("weight") else 0.0))


def reset(module: torch.nn.Module) -> None:
    """Give every layer torch's usual initial weights, to be trained; drawn from the global generator."""
    resets: dict[type[torch.nn.Module], Callable[[Any], None]] = {
        torch.nn.Linear: torch.nn.Linear.reset_parameters,
        torch.nn.Conv2d: torch.nn.Conv2d.reset_parameters,
        torch.nn.GroupNorm: torch.nn.GroupNorm.reset_parameters,
        torch.nn.LayerNorm: torch.nn.LayerNorm.reset_parameters,
        torch.nn.Embedding: torch.nn.Embedding.reset_parameters,
    }
    for layer in module.modules():
        for kind, reset_layer in resets.items():
            if isinstance(layer, kind):
                reset_layer(layer)
