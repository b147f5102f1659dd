"""Time and memory of a training's steps, told by the optimizer: one instrument for any trainer that steps a torch optimizer.

A step lasts from the end of one optimizer step to the end of the next, so loading data, encoding and logging are in it.

The memory of a step is what must be held beyond the weights: the optimizer's state, counted from its tensors, plus the peak of
what one step allocates with its gradients freed beforehand. On CUDA the peak is the allocator's own counter; on a CPU it is the
highest running sum of the allocations and frees that torch.profiler reports (all of torch's CPU tensors, not oneDNN's scratch).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


class StepMeter(AbstractContextManager["StepMeter"]):
    """Watch every optimizer step taken while the block lasts.

    Args:
        memory_step: 1-based number of the step whose memory is measured; it is slower than others. 0 is none.
    """

    def __init__(self, memory_step: int = 0) -> None:
        self.ends: list[float] = []
        self.peak_bytes = self.state_bytes = 0
        self._memory_step = memory_step
        self._before = 0
        self._profiler: Any = None
        self._watching = ExitStack()

    def __enter__(self) -> StepMeter:
        self._watching.callback(register_optimizer_step_post_hook(self._after_step).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._watching.close()

    def step_seconds(self) -> list[float]:
        """Return the seconds of each step but the first, which warms up, and the one whose memory was measured."""
        between = [later - earlier for earlier, later in zip(self.ends, self.ends[1:])]
        return [seconds for number, seconds in enumerate(between, 2) if number != self._memory_step]

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        if len(self.ends) == self._memory_step - 1:
            optimizer.zero_grad(set_to_none=True)
            self._start()
        elif len(self.ends) == self._memory_step:
            self.state_bytes = _bytes(v for state in optimizer.state.values() for v in state.values())
            self.peak_bytes = self._stop()

    def _start(self) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._profiler = torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
            )
            self._profiler.start()

    def _stop(self) -> int:
        if self._profiler is None:
            return torch.cuda.max_memory_allocated() - self._before
        self._profiler.stop()
        events = self._profiler.profiler.kineto_results.events()
        changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
        return highest_sum(change for _, change in sorted(changes, key=lambda change: change[0]))


def highest_sum(changes: Iterable[int]) -> int:
    """Return the highest running sum of allocations (positive) and frees (negative), at least 0."""
    held = highest = 0
    for change in changes:
        held += change
        highest = max(highest, held)
    return highest


def _bytes(values: Iterable[Any]) -> int:
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))
