"""Where the auxiliary latent was at each call of a run."""

from __future__ import annotations

from typing import Any

import torch
from scenes import ksample


def auxiliary_latents(model: Any, positive: Any, negative: Any, **options: Any) -> list[torch.Tensor]:
    """Return what the auxiliary branch's own forwards were given, with their ControlNet and area."""
    from comfy.patcher_extension import WrappersMP

    seen: list[Any] = []
    watched = model.clone()

    def watch(executor: Any, base: Any, conds: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if len(conds) == 1 and conds[0] and all("dci" not in cond for cond in conds[0]):
            seen.append((conds[0], x.cpu().clone()))
        return executor(base, conds, x, *args, **kwargs)

    watched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "watch", watch)
    ksample(watched, positive, negative, **options)
    return seen
