"""Watch what the auxiliary branch does in a sampling run, and let it move in a way that the pack does not offer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from comfyui_dci.nodes.host.sampling.auxiliary_branch import AuxiliaryBranch
from comfyui_dci.nodes.host.sampling.report import RunReport
from comfyui_dci.nodes.host.sampling.run import Run
from torch import Tensor


@dataclass
class Watched:
    """What was seen of runs.

    Args:
        runs: in their order.
        correlations: of both branches' latents at each active call of the last one.
    """

    runs: list[Run] = field(default_factory=list)
    correlations: list[float] = field(default_factory=list)

    @property
    def report(self) -> RunReport:
        """Of the last run."""
        return self.runs[-1].report()

    def see(self, run: Run) -> None:
        """Take note of a run whose model is called."""
        if not self.runs or self.runs[-1] is not run:
            self.runs.append(run)
            self.correlations.clear()

    def compare(self, run: Run, x: Tensor) -> None:
        """Correlate the latents of an active call; x is the concept branch's."""
        pair = torch.stack([run.branch.model_input.flatten().float(), x.flatten().float()])
        self.correlations.append(float(torch.corrcoef(pair)[0, 1]))


@contextmanager
def watching(stable: bool = False) -> Iterator[Watched]:
    """Watch the runs of a block.

    Args:
        stable: let the auxiliary latent move by a factor that contracts as infinitely many short steps do.
    """
    watched, predict, move = Watched(), Run.predict, AuxiliaryBranch.move

    def watched_predict(run: Run, executor: Any, x: Tensor, *rest: Any) -> Tensor:
        watched.see(run)
        before = run.active_calls
        output = predict(run, executor, x, *rest)
        if run.active_calls > before:
            watched.compare(run, x)
        return output

    def stable_move(branch: AuxiliaryBranch, sigma: float, *rest: Any) -> None:
        if sigma != branch.sigma and branch.shared.were_used:
            branch.denoised = stable_target(branch, sigma)
        move(branch, sigma, *rest)

    with ExitStack() as patches:
        patches.enter_context(patch.object(Run, "predict", watched_predict))
        if stable:
            patches.enter_context(patch.object(AuxiliaryBranch, "move", stable_move))
        yield watched


def stable_target(branch: AuxiliaryBranch, sigma: float) -> Tensor:
    """Return the guided image by which one step to a noise level contracts by r^s, with s the guidance and r = σ' / σ."""
    guidance, ratio = branch.guider.cfg, sigma / branch.sigma
    stable = (1.0 - ratio**guidance) / (1.0 - ratio)
    unconditional: Tensor = (guidance * branch.conditional - branch.denoised) / (guidance - 1.0)
    return unconditional + stable * (branch.conditional - unconditional)
