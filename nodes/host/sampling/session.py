"""What lasts from where a guider begins to sample until it has its latent; the sampler's run starts in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import comfy.samplers
from torch import Tensor

from ....dci_core.families import Family
from ....dci_core.sampling.branches import sigma_at_end
from ....dci_core.sampling.masks import MaskCollector
from ....dci_core.sampling.region import region_at
from ....dci_core.sampling.run_masks import RunMasks
from ....dci_core.sampling.settings import DCISettings
from ..carried import not_carried
from .attention import DualBranchAttention
from .auxiliary_branch import AuxiliaryBranch
from .auxiliary_memory import AuxiliaryMemory
from .auxiliary_weights import AuxiliaryWeights, weaken
from .conditioning import CARRIED_KEY
from .guidance import Conds
from .layers import Layer
from .pairing import AUXILIARY, OwnControls, auxiliary_twin, pair_rows
from .report import RunReport
from .run import Run
from .start import RunStart


@dataclass(frozen=True)
class RunPlan:
    """What all runs with one patched model have in common.

    Args:
        settings: of every run.
        layers: cross-attention layers of the model, in forward order, with the halvings of each.
        family: of the model.
        masks: of the latest runs.
        memory: of auxiliary passes.
    """

    settings: DCISettings
    layers: Mapping[Layer, int]
    family: Family
    masks: RunMasks
    memory: AuxiliaryMemory


@dataclass(frozen=True)
class Session:
    """A guider at work, with the auxiliary twins beside its positive conditions.

    Args:
        plan: of its runs.
        guider: the host's.
        positives: how many positive conditions there are before the host prepares them.
        controls: the auxiliary branch's own copies of adapters.
        weights: what is exchanged for its forwards.
        masks: of the session's runs, as they come.
        runs: those that have started; one, unless another node starts the sampler again.
    """

    plan: RunPlan
    guider: Any
    positives: int
    controls: OwnControls
    weights: AuxiliaryWeights = field(default_factory=AuxiliaryWeights)
    masks: MaskCollector = field(default_factory=MaskCollector)
    runs: list[Run] = field(default_factory=list)

    def start(
        self, sampler: Any, sigmas: Tensor, seed: int, noise: Tensor, latent_image: Tensor, mask: Tensor | None
    ) -> None:
        """Start a run; what the ones before it recorded is dropped.

        Args:
            sampler: the host's.
            sigmas: noise levels of its schedule.
            seed: of the run.
            noise: the concept branch's, [B, D, h, w].
            latent_image: what the noise is added to.
            mask: inpainting mask, or None.
        """
        self._forget()
        plan, guider = self.plan, self.guider
        model_sampling = guider.inner_model.model_sampling
        active_fraction = plan.settings.active_fraction
        start = RunStart(
            noise=noise,
            latent_image=latent_image,
            mask=mask,
            sigmas=sigmas,
            seed=seed,
            has_full_noise=comfy.samplers.Sampler.max_denoise(sampler, guider, sigmas),
            sigma_end=sigma_at_end(sigmas[:3].tolist(), active_fraction, model_sampling.percent_to_sigma),
            model_sampling=model_sampling,
        )
        self.masks.latent_size = start.latent_size
        rows = pair_rows(guider.conds["positive"], guider.conds[AUXILIARY], self.positives)
        region = self._region(start)
        native_latent = plan.family.native_latent
        attention = DualBranchAttention(plan.layers, native_latent, plan.settings, rows, region, self.masks)
        conds = self._auxiliary_conds()
        make_branch = partial(AuxiliaryBranch, plan.settings, start, guider, conds, attention, plan.memory)
        self.runs.append(Run(plan.settings, start, attention, make_branch))

    def predict(self, executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], seed: Any) -> Tensor:
        """Answer one model call: plain as long as no sampler has started."""
        if not self.runs:
            return executor(x, timestep, model_options, seed)
        return self.runs[-1].predict(executor, x, timestep, model_options, seed)

    def reports(self) -> list[RunReport]:
        """Return what each run did."""
        texts = (cond.get(CARRIED_KEY) for cond in self.guider.conds["positive"])
        spoken = [concept for text in texts if text is not None for concept in text.spoken]
        absent = tuple(not_carried(self.guider.model_patcher, spoken))
        return [replace(run.report(), weights=self.weights.text(), not_carried=absent) for run in self.runs]

    def end(self) -> None:
        """Take the twins and their weights away and drop what the runs hold."""
        self.guider.conds.pop(AUXILIARY, None)
        self.weights.undo()
        self._forget()

    def _forget(self) -> None:
        for run in self.runs:
            run.forget()
        self.masks.drop_call()

    def _region(self, start: RunStart) -> Tensor | None:
        mask = self.plan.settings.auxiliary_mask
        if mask is None:
            return None
        return region_at(mask, start.latent_size, len(start.noise)).to(start.noise.device)

    def _auxiliary_conds(self) -> dict[str, Conds]:
        """Return the guider's conditions for the auxiliary branch; with shared guidance no other than its positive is run."""
        conds = dict(self.guider.conds)
        if not self.plan.settings.share_guidance:
            conds = {name: cond and self.controls.given_to(cond) for name, cond in conds.items()}
        return {**conds, "positive": self.guider.conds[AUXILIARY]}


def open_session(plan: RunPlan, guider: Any) -> Session:
    """Put the auxiliary twins beside a guider's positive conditions.

    Raises:
        UserInputError: a condition's own text was changed after it was encoded, or it asks for LoRA at another strength in
            the auxiliary branch than the model's weights allow.
    """
    positive = guider.conds["positive"]
    controls = OwnControls()
    twins = [auxiliary_twin(cond, controls) for cond in positive]
    texts = [cond.get(CARRIED_KEY) for cond in positive]
    strengths = [1.0 if text is None else text.lora_strength for text in texts]
    weights = weaken(guider, twins, strengths, any(text is not None and text.is_text_weaker for text in texts))
    guider.conds[AUXILIARY] = twins
    return Session(plan, guider, len(positive), controls, weights)
