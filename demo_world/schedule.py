"""Learning rates over steps or time."""

from __future__ import annotations

LOWEST = 0.02  # share of the full rate at the very end


def warmup_stable_decay(step: int, steps: int, warmup: int, decay_share: float = 0.3) -> float:
    """Share of the full learning rate at `step`: linear rise, plateau, linear fall to 2 %.

    The plateau makes a run extendable: only the fall depends on the total.

    Args:
        step: steps done so far.
        steps: length of the whole run.
        warmup: steps of the rise.
        decay_share: share of the run that falls.
    """
    return rise(step, warmup) * fall(step / steps, max(decay_share, 1 / steps))


def rise(step: int, warmup: int) -> float:
    """Share of the full learning rate while it rises; 1 after `warmup` steps."""
    return min(1.0, (step + 1) / warmup)


def fall(done: float, decay_share: float) -> float:
    """Share of the full learning rate while it falls.

    Args:
        done: share of the run that is over, 0 ... 1, by steps or by time.
        decay_share: share of the run that falls, above 0; before that the result is 1.
    """
    return max(LOWEST, min(1.0, (1.0 - done) / decay_share))
