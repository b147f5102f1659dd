"""Time, GPU memory, operations, and what a forward of the network costs with more or fewer rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import comfy.model_management
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def now() -> float:
    """Return the time in seconds, once the GPU has done what it was given."""
    if on_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def on_gpu() -> bool:
    """Tell whether this process computes on a GPU."""
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def gpu_peak(run: Callable[[], Any]) -> float:
    """Return by how many MB the GPU memory of a run rose at its highest; 0 without a GPU, where nothing is run."""
    if not on_gpu():
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


class Work(NamedTuple):
    """What a run does, whatever the machine and what else it does.

    Args:
        operations: calls of PyTorch that compute or copy something: no views, no bare allocations. A GPU that waits for the processor
            takes about as long as these take to be started.
        flops: multiplications and additions in matrix products, convolutions and attention; a busy device takes about as long as these.
    """

    operations: int
    flops: int


def work(run: Callable[[], Any]) -> Work:
    """Return what a run does."""

    def storages(values: Any) -> set[int]:
        return {value.untyped_storage()._cdata for value in tree_leaves(values) if isinstance(value, torch.Tensor)}

    class Counter(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
            self.count = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            made = storages(out) - storages((args, kwargs))
            allocated = "empty" in function.overloadpacket.__name__
            self.count += function._schema.is_mutable or (bool(made) and not allocated)
            return out

    with FlopCounterMode(display=False) as flops, Counter() as counter:
        run()
    return Work(counter.count, flops.get_total_flops())


def work_of_run(
    one_step: dict[str, Work], two_steps: Work, steps: int, active_steps: int
) -> dict[str, dict[str, float]]:
    """Return the work of whole runs with DCI over that of the stock sampler, by measure and kind.

    Args:
        one_step: of runs of one step by kind: "stock", and others, in which the step is active.
        two_steps: of a stock run of two.
        steps: of a whole run.
        active_steps: of them active.
    """

    def ratio(kind: str, measure: str) -> float:
        one, two = getattr(one_step["stock"], measure), getattr(two_steps, measure)
        return 1 + active_steps * (getattr(one_step[kind], measure) - one) / (one + (steps - 1) * (two - one))

    others = [kind for kind in one_step if kind != "stock"]
    return {measure: {kind: ratio(kind, measure) for kind in others} for measure in Work._fields}


def seconds_by_rows(model: Any, latent: Any, rounds: int) -> dict[int, float]:
    """Return the median seconds of the host's plain forward with 1 … 4 rows per image, measured in turns."""
    comfy.model_management.load_models_gpu([model])
    device, config = model.load_device, model.model.model_config.unet_config
    taken: dict[int, list[float]] = {rows: [] for rows in range(1, 5)}
    for number in range(rounds + 1):
        for rows, seconds in taken.items():
            count = rows * latent.shape[0]
            pooled = config.get("adm_in_channels")
            conds = {} if pooled is None else {"y": torch.zeros(count, pooled, device=device)}
            text = torch.zeros(count, 77, config["context_dim"], device=device)
            x = latent.repeat(rows, 1, 1, 1).to(device)
            start = now()
            model.model.apply_model(x, torch.full((count,), 1.0, device=device), c_crossattn=text, **conds)
            if number:  # the first round warms up
                seconds.append(now() - start)
    return {rows: statistics.median(seconds) for rows, seconds in taken.items()}


def one_call(forward_seconds: dict[int, float]) -> dict[str, float]:
    """Return what an active step would take if both branches went through the network in one call, over two calls.

    Args:
        forward_seconds: of a forward with 1 … 4 rows per image. Shared guidance has one auxiliary and two concept rows,
            exact guidance two of each.
    """
    seconds = forward_seconds
    return {"shared": seconds[3] / (seconds[1] + seconds[2]), "exact": seconds[4] / (2 * seconds[2])}
