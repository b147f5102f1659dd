"""DCI as a model patch: one mechanism under KSampler, SamplerCustomAdvanced and every guider.

The auxiliary branch only ever feeds the concept branch, so it need not live in the sampler. Three
wrappers on a clone of the model see a run begin (OUTER_SAMPLE), its starting noise (SAMPLER_SAMPLE) and
each model call (PREDICT_NOISE). At an active call the auxiliary latent is moved to the call's noise level
by its own Euler step, run once while its cross-attention is recorded, and the sampler's own call then
runs with the record blended in. The sampler is the host's and sees nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_patcher
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...dci_core.branches import auxiliary_noise, composite, euler_step, is_active, sigma_at_end
from ...dci_core.errors import UserInputError
from ...dci_core.masks import BlendMasks
from ...dci_core.region import region_at
from ...dci_core.settings import DCISettings
from ...dci_core.strength import active_progress
from .attention import PATCH_KEY, DualBranchAttention, Layer, cross_attention_layers
from .auxiliary_memory import AuxiliaryMemory, AuxiliaryPass
from .conditioning import CARRIED_KEY
from .families import family_of
from .guidance import SharedPredictions, guide
from .pairing import OwnControls, auxiliary_twin, pair_rows
from .report import RunReport, Tell, tell_inactive, tell_run, tell_switched_off

AUXILIARY = "dci_auxiliary"


def apply_dci(
    model: Any, settings: DCISettings, memory: AuxiliaryMemory | None = None, tell: Tell | None = None
) -> tuple[Any, BlendMasks]:
    """Return a clone of the MODEL that samples with two branches, and the masks it fills as it does.

    Args:
        model: a host MODEL; it is not changed.
        settings: of every run with the clone.
        memory: of the auxiliary passes, shared by the runs of a λ sweep; None runs on its own.
        tell: is given a line about each run; the log has it in any case.

    Raises:
        UserInputError: the model has no text cross-attention, or already carries DCI.
    """
    if model.get_wrappers(WrappersMP.OUTER_SAMPLE, PATCH_KEY):
        raise UserInputError(
            "This model already carries Apply DCI. Use it once: connect the model from before it, or sample with KSampler."
        )
    family = family_of(model)
    layers = cross_attention_layers(model.get_model_object("diffusion_model"))
    masks = BlendMasks()
    patch = _DCIPatch(settings, masks, layers, family.native_latent, memory or AuxiliaryMemory(is_open=False), tell)
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PATCH_KEY, patch.outer_sample)
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, PATCH_KEY, _sampler_sample)
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, PATCH_KEY, _predict_noise)
    return patched, masks


class _DCIPatch:
    """What stays on the patched model between runs: settings and the masks of the latest run."""

    def __init__(
        self,
        settings: DCISettings,
        masks: BlendMasks,
        layers: list[Layer],
        native_latent: int,
        memory: AuxiliaryMemory,
        tell: Tell | None,
    ) -> None:
        self.settings = settings
        self.masks = masks
        self.layers = layers
        self.native_latent = native_latent
        self.memory = memory
        self.tell = tell

    def outer_sample(
        self,
        executor: Any,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Any,
        sigmas: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Open a run when there is something to do; its state lives in the guider's options of this run only."""
        guider = executor.class_obj
        self.masks.clear()
        if self.settings.active_fraction <= 0.0:
            tell_switched_off(self.tell)
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        reason = self._why_inactive(guider, noise)
        if reason is not None:
            tell_inactive(reason, self.tell)
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        positive = guider.conds["positive"]
        controls = OwnControls()
        guider.conds[AUXILIARY] = [auxiliary_twin(cond, controls) for cond in positive]
        attention = DualBranchAttention(self.layers, self.settings, self.masks, self.native_latent)
        run = _Run(self.settings, attention, guider, len(positive), controls, self.memory)
        guider.model_options[PATCH_KEY] = run
        try:
            output = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
            tell_run(run.report().text(), self.tell)
            self.memory.close()
            return output
        finally:
            guider.model_options.pop(PATCH_KEY, None)
            guider.conds.pop(AUXILIARY, None)
            attention.forget()
            self.masks.drop_call()

    def _why_inactive(self, guider: Any, noise: Tensor) -> str | None:
        if not any(CARRIED_KEY in cond for cond in guider.conds.get("positive", [])):
            return (
                "the positive conditioning carries no auxiliary text. Make it with AuxPromptBuilder; in ConditioningConcat and "
                "ConditioningAverage it must be conditioning_to."
            )
        if torch.count_nonzero(noise) == 0:
            return "no noise is added in this run, so there is nothing for the auxiliary branch to start from."
        return None


class _Run:
    """One sampling run: the auxiliary latent, where it stands, and what it last predicted."""

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

    def start(
        self, sampler: Any, sigmas: Tensor, seed: int, noise: Tensor, latent_image: Tensor, mask: Tensor | None
    ) -> None:
        """Give the auxiliary branch its noise, as the sampler is about to give the concept branch its own."""
        model_sampling = self.guider.inner_model.model_sampling
        self.noise = noise if self.settings.share_noise else auxiliary_noise(noise, seed)
        self.latent_image = latent_image
        self.mask = mask
        self.sigmas = sigmas
        full_noise = comfy.samplers.Sampler.max_denoise(sampler, self.guider, sigmas)
        self.x = model_sampling.noise_scaling(sigmas[0], self.noise.clone(), latent_image, full_noise)
        self.sigma = float(sigmas[0])
        self.denoised = latent_image
        self.recorded_sigma: float | None = None
        self.sigma_end = sigma_at_end(self.sigma, self.settings.active_fraction, model_sampling.percent_to_sigma)
        self.active_timesteps = self._timestep(self.sigma), self._timestep(self.sigma_end)
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
        self.active_calls += 1
        if sigma != self.recorded_sigma:
            self._move_to(sigma)
            self._record(timestep, model_options)
        timestep_now = self._timestep(sigma)
        self.attention.progress = active_progress(timestep_now, *self.active_timesteps)
        options = self.attention.injecting_options(model_options)
        if self.settings.share_guidance:
            shared = SharedPredictions(sigma)
            output = executor(x, timestep, shared.overhearing(options), seed)
            self._share_guidance(shared, timestep, model_options)
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
            context_windows=attention.saw_context_windows,
        )

    def _timestep(self, sigma: float) -> float:
        return float(self.guider.inner_model.model_sampling.timestep(torch.tensor([sigma])))

    def _move_to(self, sigma: float) -> None:
        if sigma != self.sigma:
            self.x = euler_step(self.x, self.denoised, self.sigma, sigma)
            self.sigma = sigma

    def _record(self, timestep: Tensor, model_options: dict[str, Any]) -> None:
        self.attention.forget()
        self.model_input = self._inpainted_input(timestep, model_options)
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
        """Shared guidance lets λ in by the concept's other predictions, from the third pass on."""
        return not self.uses_shared_guidance or self.auxiliary_passes < 2

    def _share_guidance(self, shared: SharedPredictions, timestep: Tensor, model_options: dict[str, Any]) -> None:
        options = shared.answering(model_options, self.view["positive"], self.conditional)
        with _untouched_random_state(self.model_input.device):
            denoised = guide(self.guider, self.view, self.model_input, timestep, options)
        self.uses_shared_guidance = shared.were_used
        self.denoised = composite(denoised, self.latent_image, self.call_mask)

    def _inpainted_input(self, timestep: Tensor, model_options: dict[str, Any]) -> Tensor:
        self.call_mask = self.mask
        if self.mask is None:
            return self.x
        if "denoise_mask_function" in model_options:
            extra = {"model": self.guider, "sigmas": self.sigmas}
            self.call_mask = model_options["denoise_mask_function"](timestep, self.mask, extra_options=extra)
        kept = self.guider.inner_model.scale_latent_inpaint(
            x=self.x, sigma=timestep, noise=self.noise, latent_image=self.latent_image
        )
        return composite(self.x, kept, self.call_mask)


@contextmanager
def _untouched_random_state(device: torch.device) -> Iterator[None]:
    """Keep the global generators as they are: patches such as token merging draw from them in every forward."""
    others = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        yield


def _sampler_sample(
    executor: Any, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor,
    latent_image: Tensor, denoise_mask: Tensor | None = None, *args: Any, **kwargs: Any,
) -> Tensor:  # fmt: skip
    run = guider.model_options.get(PATCH_KEY)
    if run is not None:
        run.start(executor.class_obj, sigmas, extra_args.get("seed") or 0, noise, latent_image, denoise_mask)
    return executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *args, **kwargs)


def _predict_noise(
    executor: Callable[..., Tensor],
    x: Tensor,
    timestep: Tensor,
    model_options: dict[str, Any] | None = None,
    seed: Any = None,
) -> Tensor:
    run = executor.class_obj.model_options.get(PATCH_KEY)  # type: ignore[attr-defined]
    if run is None:
        return executor(x, timestep, model_options or {}, seed)
    return run.predict(executor, x, timestep, model_options or {}, seed)
