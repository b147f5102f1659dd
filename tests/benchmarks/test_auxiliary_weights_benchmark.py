"""The benchmark of weaker LoRA measures what it says on a network with a LoRA on all its layers."""

from __future__ import annotations

from benchmarks import auxiliary_weights
from workbench.tiny import tiny


def test_a_step_that_exchanges_weights_is_set_against_one_that_does_not() -> None:
    base = tiny("mini")
    result = auxiliary_weights.measure(base.model, base.clip, size=64, steps=3, rounds=1)
    weights = base.model.model.state_dict()
    changed = [key for key, weight in weights.items() if key.endswith(".weight") and weight.ndim in (2, 4)]
    assert result["weights"] == len(changed)
    assert result["weights_gb"] == round(sum(weights[key].nbytes for key in changed) / 1e9, 3)
    assert result["operations_ratio"] > 1 and result["active_step_ratio"] > 0
