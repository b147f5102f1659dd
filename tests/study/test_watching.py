"""What is watched of a run, and the candidate that the pack does not offer, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_dci.nodes.host.sampling.auxiliary_branch import AuxiliaryBranch
from comfyui_dci.nodes.host.sampling.run import Run

from study.watching import Watched, stable_target, watching


def test_a_stable_step_contracts_by_the_ratio_to_the_power_of_the_guidance() -> None:
    x, unconditional, conditional, guidance, ratio = 3.0, 0.5, 1.0, 2.0, 0.5
    branch: Any = SimpleNamespace(
        guider=SimpleNamespace(cfg=guidance),
        sigma=8.0,
        conditional=torch.tensor(conditional),
        denoised=torch.tensor(unconditional + guidance * (conditional - unconditional)),
    )
    target = stable_target(branch, 8.0 * ratio)
    assert float(target) == pytest.approx(0.5 + 1.5 * 0.5)  # (1 - ½²) / (1 - ½) times the difference
    assert float(target + ratio * (x - target)) == pytest.approx(2.125)


def test_each_run_is_seen_once_and_only_the_last_one_s_latents_are_compared() -> None:
    watched, x = Watched(), torch.tensor([1.0, 2.0, 3.0])
    first, second = (SimpleNamespace(branch=SimpleNamespace(model_input=sign * x)) for sign in (1, -1))
    for run in (first, first, second):
        watched.see(run)  # a branch is all that is read of it
        watched.compare(run, x)
    assert watched.runs == [first, second] and watched.correlations == pytest.approx([-1.0])


def test_the_pack_is_as_before_once_nothing_is_watched() -> None:
    predict, move = Run.predict, AuxiliaryBranch.move
    with pytest.raises(KeyboardInterrupt), watching(stable=True):
        assert Run.predict is not predict and AuxiliaryBranch.move is not move
        raise KeyboardInterrupt
    assert Run.predict is predict and AuxiliaryBranch.move is move
