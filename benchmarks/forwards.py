"""Time, GPU memory, and what a forward of the network costs with more or fewer rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def now() -> float:
    """Return the time in seconds, once the GPU has done what it was given."""
    import torch

    if on_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def on_gpu() -> bool:
    """Tell whether this process computes on a GPU."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_initialized()


def gpu_peak(run: Callable[[], Any]) -> float:
    """Return by how many MB the GPU memory of a run rose at its highest; 0 without a GPU, where nothing is run."""
    import torch

    if not on_gpu():
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def seconds_by_rows(model: Any, latent: Any, rounds: int) -> dict[int, float]:
    """Return the median seconds of the host's plain forward with 1 … 4 rows per image, measured in turns."""
    import comfy.model_management
    import torch

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
