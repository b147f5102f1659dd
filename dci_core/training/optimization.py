"""Optimizer, learning-rate schedule, gradient norm and moving average of a training run."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserInputError
from .settings import OptimizerKind, Schedule


def learning_rate_factor(schedule: Schedule, step: int, steps: int, warmup_steps: int) -> float:
    """Return what the final learning rates are multiplied by.

    Args:
        schedule: constant, cosine or linear after the warm-up.
        step: 0-based.
        steps: of the whole run.
        warmup_steps: the factor is 1/warmup_steps at the first of them and 1 at the last.

    Returns:
        0 … 1; falling schedules would reach 0 one step after the last.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule is Schedule.CONSTANT:
        return 1.0
    passed = (step - warmup_steps) / (steps - warmup_steps)
    return 1.0 - passed if schedule is Schedule.LINEAR else 0.5 * (1.0 + math.cos(math.pi * passed))


def check_optimizer(kind: OptimizerKind) -> None:
    """Check that an optimizer is installed.

    Raises:
        UserInputError: the 8-bit optimizer is wanted, but bitsandbytes cannot be imported.
    """
    if kind is OptimizerKind.ADAMW_8BIT:
        _bitsandbytes()


def make_optimizer(kind: OptimizerKind, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return an optimizer without weight decay; each group's "lr" is kept as its "final_lr".

    Raises:
        UserInputError: see ``check_optimizer``.
    """
    groups = [{**group, "final_lr": group["lr"]} for group in groups if group["params"]]
    if kind is OptimizerKind.ADAMW:
        return torch.optim.AdamW(groups, weight_decay=0.0)
    optimizer: torch.optim.Optimizer = _bitsandbytes().optim.AdamW8bit(groups, weight_decay=0.0)
    return optimizer


def _bitsandbytes() -> Any:
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise UserInputError(
            f"The optimizer adamw_8bit needs bitsandbytes, which cannot be imported ({error}). Install it in ComfyUI's "
            "environment (pip install bitsandbytes), or choose adamw."
        ) from error


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's rate to its final rate times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["final_lr"] * factor


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the 2-norm over the gradients of all tensors together, a scalar."""
    norms = [torch.linalg.vector_norm(parameter.grad) for parameter in parameters if parameter.grad is not None]
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))


def scale_gradients(parameters: Iterable[nn.Parameter], norm: Tensor, max_norm: float) -> None:
    """Multiply all gradients so that their common norm is at most ``max_norm``; smaller ones are left as they are."""
    if norm > max_norm:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(max_norm / norm)


class MovingAverage:
    """An exponential moving average of trained tensors, by name: a ← d·a + (1 - d)·p.

    Early in a run d is at most (1 + n)/(10 + n) after n updates, so that the start is soon forgotten.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.averages = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self.updates = 0
        self._parameters = parameters
        self._decay = decay

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters of the step just made into the average."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for name, average in self.averages.items():
            average.lerp_(self._parameters[name], 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the parameters be their averages while the block lasts."""
        kept = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self.averages[name]
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = kept[name]
