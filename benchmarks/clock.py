"""What a kind of run takes: its time, the share of our own work, and the bytes held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from typing import Any
from unittest.mock import patch

import torch
from comfyui_dci.dci_core.sampling.masks import MaskCollector
from comfyui_dci.nodes.host.sampling.attention import DualBranchAttention
from comfyui_dci.nodes.host.sampling.run import Run

from benchmarks.forwards import now
from workbench.pack import NAME


class Clock:
    """What one kind of run took: whole runs, steps, our own work at the layers, masks, and the bytes held."""

    def __init__(self) -> None:
        self.runs: list[float] = []
        self.cpu: list[float] = []
        self.steps: list[list[float]] = []
        self.active_seconds = self.own = self.masks = 0.0
        self.record_bytes = self.held_bytes = self.held_after_bytes = 0
        self.active_steps = 0

    def add(self, seconds: float, cpu_seconds: float, steps: list[float]) -> None:
        """Take note of a run that was not watched."""
        self.runs.append(seconds)
        self.cpu.append(cpu_seconds)
        self.steps.append(steps)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Wrap the pack's own functions for one run."""
        with ExitStack() as patches:
            for owner, name, wrap in (
                (DualBranchAttention, "record", self._without_inner),
                (DualBranchAttention, "inject", self._without_inner),
                (MaskCollector, "add", self._of_masks),
                (MaskCollector, "finish_call", self._of_masks),
                (Run, "predict", self._holding),
            ):
                patches.enter_context(patch.object(owner, name, wrap(getattr(owner, name))))
            yield

    def _without_inner(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(attention: DualBranchAttention, inner: Callable[..., Any], *args: Any) -> Any:
            inside = 0.0

            def timed_inner(*inner_args: Any) -> Any:
                nonlocal inside
                start = now()
                out = inner(*inner_args)
                inside += now() - start
                return out

            masks, start = self.masks, now()
            out = method(attention, timed_inner, *args)
            self.own += now() - start - inside - (self.masks - masks)
            return out

        return timed

    def _of_masks(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = now()
            out = method(*args, **kwargs)
            self.masks += now() - start
            return out

        return timed

    def _holding(self, predict: Callable[..., Any]) -> Callable[..., Any]:
        def counted(run: Run, *args: Any, **kwargs: Any) -> Any:
            active, start = run.active_calls, now()
            out = predict(run, *args, **kwargs)
            seconds = now() - start
            held = bytes_held(vars(run))
            if run.active_calls > active:
                self.active_steps = run.active_calls
                self.active_seconds += seconds
                self.held_bytes = max(self.held_bytes, held)
                outputs = [record.output for record in run.branch.records.values()]
                self.record_bytes = max(self.record_bytes, bytes_held(outputs))
            else:
                self.held_after_bytes = max(self.held_after_bytes, held)
            return out

        return counted


def bytes_held(value: Any, seen: set[int] | None = None) -> int:
    """Return the bytes of all tensor storages reachable through containers, dataclasses and plain objects of the pack."""
    seen = set() if seen is None else seen
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
    else:
        key, size = id(value), 0
    if key in seen:
        return 0
    seen.add(key)
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, (list, tuple)):
        children = list(value)
    elif is_dataclass(value) and not isinstance(value, type):
        children = [getattr(value, field.name) for field in fields(value)]
    elif type(value).__module__.startswith(NAME) and hasattr(value, "__dict__"):
        children = [child for name, child in vars(value).items() if name != "guider"]
    else:
        children = []
    return size + sum(bytes_held(child, seen) for child in children)
