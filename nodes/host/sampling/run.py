"""One sampling run with two branches: what each model call of the sampler gets."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.sampling.settings import DCISettings
from .attention import DualBranchAttention
from .auxiliary_branch import AuxiliaryBranch
from .guidance import SharedPredictions
from .report import RunReport
from .start import RunStart


class Run:
    """Decides at each model call of the sampler whether both branches run, and in which order.

    Args:
        settings: of the run.
        start: of the run.
        attention: its patches.
        make_branch: the auxiliary branch at the start.
    """

    def __init__(
        self,
        settings: DCISettings,
        start: RunStart,
        attention: DualBranchAttention,
        make_branch: Callable[[], AuxiliaryBranch],
    ) -> None:
        self.settings = settings
        self.start = start
        self.attention = attention
        self.calls = 0
        self.active_calls = 0
        self._make_branch = make_branch

    @cached_property
    def branch(self) -> AuxiliaryBranch:
        """The auxiliary branch, made at the first active call: until the model is called, the noise may still change."""
        return self._make_branch()

    def predict(self, executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], seed: Any) -> Tensor:
        """Answer one model call of the sampler: plain after T_a, else with the auxiliary branch blended in."""
        self.calls += 1
        sigma = float(timestep[0])
        if not self.start.is_active(sigma):
            self.forget()
            return executor(x, timestep, model_options, seed)
        self._check_size(x)
        self.active_calls += 1
        if not self.branch.is_recorded_at(sigma):
            self.branch.move(sigma, timestep, model_options)
            self.branch.record(timestep, model_options)
        now = self.start.timestep(sigma)
        options = self.attention.injecting_options(model_options, self.branch.records, self.start.progress(now))
        if self.settings.share_guidance:
            shared = SharedPredictions(sigma, x)
            output = executor(x, timestep, shared.overhearing(options), seed)
            shared.finish(output)
            self.branch.guide(shared, timestep, model_options)
        else:
            output = executor(x, timestep, options, seed)
        self.attention.masks.finish_call(sigma, now, self.start.step_at(sigma), self.start.steps)
        return output

    def forget(self) -> None:
        """Drop the auxiliary branch's record, if there is one."""
        if self.active_calls:
            self.branch.forget()

    def report(self) -> RunReport:
        """Return what this run did."""
        attention, deviations = self.attention, self.branch.deviations if self.active_calls else []
        return RunReport(
            settings=self.settings,
            layers=len(attention.layers),
            tokens=attention.rows.token_sets(),
            active_steps=self.start.active_steps,
            steps=self.start.steps,
            active_calls=self.active_calls,
            calls=self.calls,
            mean_weight=attention.mean_weight(),
            deviations=tuple(torch.cat([each.cpu() for each in deviations]).tolist()) if deviations else (),
            context_windows=attention.saw_context_windows,
            areas=attention.saw_areas,
        )

    def _check_size(self, x: Tensor) -> None:
        if x.shape != self.branch.x.shape:
            raise UserInputError(
                f"The sampler changed the latent from {tuple(self.branch.x.shape)} to {tuple(x.shape)} between its steps; DCI's auxiliary branch "
                "cannot follow. Take a sampler that keeps the size, or so small an active_fraction that only its first size is active."
            )
