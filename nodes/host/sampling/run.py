"""One sampling run with two branches: where the auxiliary branch stands, and what each model call of the sampler gets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.sampling.branches import (
    auxiliary_noise,
    composite,
    euler_step,
    fine_sigmas,
    fine_step,
    is_active,
    sigma_at_end,
    stochastic_levels,
)
from ....dci_core.sampling.region import region_at
from ....dci_core.sampling.settings import AuxiliarySteps, DCISettings
from ....dci_core.sampling.strength import active_progress
from .attention import DualBranchAttention
from .auxiliary_memory import AuxiliaryMemory, AuxiliaryPass
from .guidance import SharedPredictions, guide
from .pairing import OwnControls, pair_rows
from .report import RunReport

AUXILIARY = "dci_auxiliary"


class Run:
    """One sampling run: the auxiliary latent, where it stands, and what it last predicted.

    Args:
        settings: of the run.
        attention: its records and patches.
        guider: the host's; its conditions hold the auxiliary twins under ``AUXILIARY``.
        positives: how many positive conditions there were before the host prepared them.
        controls: the auxiliary branch's own copies of adapters.
        memory: of auxiliary passes.
    """

    def __init__(
        self,
        settings: DCISettings,
        attention: DualBranchAttention,
        guider: Any,
        positives: int,
        controls: OwnControls,
        memory: AuxiliaryMemory,
    ) -> None:
        self.settings = settings
        self.memory = memory
        self.controls = controls
        self.attention = attention
        self.guider = guider
        self.positives = positives
        self.sigma_end = math.inf
        self.active_calls = 0
        self.calls = 0
        self.auxiliary_passes = 0
        self.uses_shared_guidance = False
        self.shared: SharedPredictions | None = None
        self.deviations: list[Tensor] = []

    def start(
        self, sampler: Any, sigmas: Tensor, seed: int, noise: Tensor, latent_image: Tensor, mask: Tensor | None
    ) -> None:
        """Take note of what the sampler is about to start from. The noise may still be shuffled in place (FreeNoise)."""
        model_sampling = self.guider.inner_model.model_sampling
        self.concept_noise = noise
        self.seed = seed
        self.x: Tensor | None = None
        self.latent_image = latent_image
        self.mask = mask
        self.sigmas = sigmas
        self.has_full_noise = comfy.samplers.Sampler.max_denoise(sampler, self.guider, sigmas)
        self.sigma = float(sigmas[0])
        self.denoised = latent_image
        self.recorded_sigma: float | None = None
        self.sigma_end = sigma_at_end(
            sigmas[:3].tolist(), self.settings.active_fraction, model_sampling.percent_to_sigma
        )
        last_sigma = max(self.sigma_end, float(model_sampling.sigma_min))  # some models have no timestep at 0
        self.active_timesteps = self._timestep(self.sigma), self._timestep(last_sigma)
        size = (noise.shape[-2], noise.shape[-1])
        self.attention.masks.latent_size = size
        if self.settings.auxiliary_mask is not None:
            self.attention.region = region_at(self.settings.auxiliary_mask, size, len(noise)).to(noise.device)
        conds = self.guider.conds
        paired = pair_rows(conds["positive"], conds[AUXILIARY], self.positives)
        self.attention.concept_rows, self.attention.auxiliary_rows = paired
        self.view = dict(conds)
        if not self.settings.share_guidance:
            self.view = {name: cond and self.controls.given_to(cond) for name, cond in conds.items()}
        self.view["positive"] = conds[AUXILIARY]

    def predict(self, executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], seed: Any) -> Tensor:
        """Answer one model call of the sampler: plain after T_a, else with the auxiliary branch blended in."""
        self.calls += 1
        sigma = float(timestep[0])
        if not is_active(sigma, self.sigma_end):
            self.attention.forget()
            self.recorded_sigma = None
            return executor(x, timestep, model_options, seed)
        if self.x is None:
            self._draw_noise()
        if x.shape != self.x.shape:
            raise UserInputError(
                f"The sampler changed the latent from {tuple(self.x.shape)} to {tuple(x.shape)} between its steps; DCI's auxiliary branch "
                "cannot follow. Take a sampler that keeps the size, or so small an active_fraction that only its first size is active."
            )
        self.active_calls += 1
        if sigma != self.recorded_sigma:
            self._move_to(sigma, timestep, model_options)
            self._record(timestep, model_options)
        timestep_now = self._timestep(sigma)
        self.attention.progress = active_progress(timestep_now, *self.active_timesteps)
        options = self.attention.injecting_options(model_options)
        if self.settings.share_guidance:
            self.shared = SharedPredictions(sigma, x)
            output = executor(x, timestep, self.shared.overhearing(options), seed)
            self.shared.finish(output)
            self._share_guidance(self.shared, timestep, model_options)
        else:
            output = executor(x, timestep, options, seed)
        self.attention.masks.finish_call(sigma, timestep_now)
        return output

    def report(self) -> RunReport:
        """Return what this run did."""
        attention = self.attention
        tokens = {row.pair: row.tokens for row in attention.auxiliary_rows.values()}
        return RunReport(
            settings=self.settings,
            layers=len(attention.layers),
            tokens=tuple((row.tokens, tokens[row.pair]) for row in attention.concept_rows.values()),
            active_steps=sum(is_active(sigma, self.sigma_end) for sigma in self.sigmas[:-1].tolist()),
            steps=len(self.sigmas) - 1,
            active_calls=self.active_calls,
            calls=self.calls,
            mean_weight=attention.mean_weight(),
            deviations=tuple(torch.cat([each.cpu() for each in self.deviations]).tolist()) if self.deviations else (),
            context_windows=attention.saw_context_windows,
            areas=attention.saw_areas,
        )

    def _timestep(self, sigma: float) -> float:
        return float(self.guider.inner_model.model_sampling.timestep(torch.tensor([sigma])))

    def _draw_noise(self) -> None:
        noise = self.concept_noise
        self.noise = noise if self.settings.share_noise else auxiliary_noise(noise, self.seed)
        scaling = self.guider.inner_model.model_sampling.noise_scaling
        self.x = scaling(self.sigmas[0], self.noise.clone(), self.latent_image, self.has_full_noise)

    def _move_to(self, sigma: float, timestep: Tensor, model_options: dict[str, Any]) -> None:
        if sigma == self.sigma:
            return
        level, deviation = stochastic_levels(self.sigma, sigma, self.settings.auxiliary_eta)
        if not self._moves_finely():
            self.x = euler_step(self.x, self.denoised, self.sigma, level)
        elif type(self.guider) is comfy.samplers.CFGGuider and self.guider.cfg and self.call_mask is None:
            shared = self.shared
            unconditional = shared.prediction(self.view["negative"])
            self.x = fine_step(
                self.x, shared.x, self.conditional, unconditional, shared.guided, self.guider.cfg, self.sigma, level
            )
        else:
            self._step_by_step(level, timestep, model_options)
        if deviation:
            self.x = self.x + deviation * auxiliary_noise(self.concept_noise, self.seed, self.auxiliary_passes)
        self.sigma = sigma

    def _step_by_step(self, level: float, timestep: Tensor, model_options: dict[str, Any]) -> None:
        """Take fine steps by a guider's own formula, whatever it is, and within an inpainting mask."""
        levels = fine_sigmas(self.sigma, level)
        for now, following in zip(levels, levels[1:]):
            between = now != self.sigma
            denoised = self._denoised_between(now, timestep, model_options) if between else self.denoised
            self.x = euler_step(self.x, denoised, now, following)

    def _moves_finely(self) -> bool:
        """Without shared predictions the way is a straight line, and what only the model can answer has its price."""
        shared = self.shared
        fine = self.settings.auxiliary_steps is AuxiliarySteps.FINE
        return fine and shared is not None and shared.were_used and not shared.asked_model

    def _denoised_between(self, sigma: float, timestep: Tensor, model_options: dict[str, Any]) -> Tensor:
        """Return the guided image on the way to the next call, with the network's predictions of the last one."""
        assert self.shared is not None
        here = torch.full_like(timestep, sigma)
        options = self.shared.answering(model_options, self.view["positive"], self.conditional, sigma)
        with _untouched_random_state(self.x.device):
            denoised = guide(self.guider, self.view, self._with_kept(here), here, options)
        return composite(denoised, self.latent_image, self.call_mask)

    def _record(self, timestep: Tensor, model_options: dict[str, Any]) -> None:
        self.attention.forget()
        self.model_input = self._inpainted_input(timestep, model_options)
        scaled = self.guider.inner_model.model_sampling.calculate_input(timestep, self.x)
        self.deviations.append(scaled.flatten(1).float().std(dim=1))
        found = self.memory.find(self.model_input, self.sigma)
        done = found or self._auxiliary_pass(timestep, model_options)
        if found is None and self._is_independent_of_strength():
            self.memory.keep(done)
        self.auxiliary_passes += 1
        self.attention.records = dict(done.records)
        self.recorded_sigma = self.sigma
        self.conditional = done.denoised
        if not self.settings.share_guidance:
            self.denoised = composite(done.denoised, self.latent_image, self.call_mask)

    def _auxiliary_pass(self, timestep: Tensor, model_options: dict[str, Any]) -> AuxiliaryPass:
        """Run the auxiliary branch; with shared guidance only its positive, the rest follows from the concept's call."""
        options = self.attention.recording_options(model_options)
        with _untouched_random_state(self.model_input.device):
            if self.settings.share_guidance:
                positive, model = self.view["positive"], self.guider.inner_model
                (denoised,) = comfy.samplers.calc_cond_batch(model, [positive], self.model_input, timestep, options)
            else:
                denoised = guide(self.guider, self.view, self.model_input, timestep, options)
        return AuxiliaryPass(self.model_input, self.sigma, denoised, dict(self.attention.records))

    def _is_independent_of_strength(self) -> bool:
        """Shared guidance lets λ in: in single steps by the concept's other predictions, in fine ones by its way between calls."""
        first = 1 if self.settings.auxiliary_steps is AuxiliarySteps.FINE else 2
        return not self.uses_shared_guidance or self.auxiliary_passes < first

    def _share_guidance(self, shared: SharedPredictions, timestep: Tensor, model_options: dict[str, Any]) -> None:
        options = shared.answering(model_options, self.view["positive"], self.conditional)
        with _untouched_random_state(self.model_input.device):
            denoised = guide(self.guider, self.view, self.model_input, timestep, options)
        self.uses_shared_guidance = shared.were_used
        self.denoised = composite(denoised, self.latent_image, self.call_mask)

    def _inpainted_input(self, timestep: Tensor, model_options: dict[str, Any]) -> Tensor:
        self.call_mask = self.mask
        if self.mask is not None and "denoise_mask_function" in model_options:
            extra = {"model": self.guider, "sigmas": self.sigmas}
            self.call_mask = model_options["denoise_mask_function"](timestep, self.mask, extra_options=extra)
        return self._with_kept(timestep)

    def _with_kept(self, timestep: Tensor) -> Tensor:
        """Return the auxiliary latent with what an inpainting mask keeps, noised as it is."""
        if self.call_mask is None:
            return self.x
        kept = self.guider.inner_model.scale_latent_inpaint(
            x=self.x, sigma=timestep, noise=self.noise, latent_image=self.latent_image
        )
        return composite(self.x, kept, self.call_mask)


@contextmanager
def _untouched_random_state(device: torch.device) -> Iterator[None]:
    """Keep the global generators as they are: patches such as token merging draw from them in every forward."""
    others = [device] if device.type != "cpu" and hasattr(torch, device.type) else []
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        yield
