"""Learning rates over time."""

from __future__ import annotations


def warmup_stable_decay(step: int, steps: int, warmup: int, decay_share: float = 0.3) -> float:
    """Share of the full learning rate at `step`: linear rise, plateau, linear fall to 2 %.

    The plateau makes a run extendable: only the fall depends on the total.

    Args:
        step: steps done so far.
        steps: length of the whole run.
        warmup: steps of the rise.
        decay_share: share of the run that falls.
    """
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, (steps - step) / max(1.0, decay_share * steps))
    return rise * max(fall, 0.02)
