"""DCI as a model patch: one mechanism under KSampler, SamplerCustomAdvanced and every guider.

The auxiliary branch only ever feeds the concept branch, so it need not live in the sampler. Three
wrappers on a clone of the model see a run begin (OUTER_SAMPLE), its starting noise (SAMPLER_SAMPLE) and
each model call (PREDICT_NOISE). At an active call the auxiliary latent is moved to the call's noise level
by its own Euler step, run once while its cross-attention is recorded, and the sampler's own call then
runs with the record blended in. The sampler is the host's and sees nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.log import LOG
from ....dci_core.sampling.masks import BlendMasks, RunStamp
from ....dci_core.sampling.run_masks import KEPT_RUNS, RunMasks
from ....dci_core.sampling.settings import DCISettings
from ..executing import executing_origin
from ..families import family_of
from ..node_text import Tell, announce
from .attention import PATCH_KEY
from .auxiliary_memory import AuxiliaryMemory
from .conditioning import CARRIED_KEY
from .layers import cross_attention_layers
from .report import tell_inactive, tell_switched_off
from .session import RunPlan, Session, open_session


def apply_dci(
    model: Any,
    settings: DCISettings,
    memory: AuxiliaryMemory | None = None,
    tell: Tell | None = None,
    kept_runs: int = KEPT_RUNS,
) -> tuple[Any, RunMasks]:
    """Return a clone of the MODEL that samples with two branches, and where its finished runs leave their masks.

    Args:
        model: a host MODEL; it is not changed.
        settings: of every run with the clone.
        memory: of the auxiliary passes, shared by the runs of a λ sweep; None runs on its own.
        tell: is given a line about each run; the log has it in any case.
        kept_runs: how many of the latest runs keep their masks.

    Raises:
        UserInputError: the model has no text cross-attention, or already carries DCI.
    """
    if model.get_wrappers(WrappersMP.OUTER_SAMPLE, PATCH_KEY):
        raise UserInputError(
            "This model already carries Apply DCI. Use it once: connect the model from before it, or sample with KSampler."
        )
    family = family_of(model)
    layers = cross_attention_layers(model.get_model_object("diffusion_model"))
    masks = RunMasks(kept_runs)
    memory = memory or AuxiliaryMemory(is_open=False)
    patch = _DCIPatch(RunPlan(settings, layers, family, masks, memory), tell)
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PATCH_KEY, patch.outer_sample)
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, PATCH_KEY, _sampler_sample)
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, PATCH_KEY, _predict_noise)
    return patched, masks


@dataclass(frozen=True)
class _DCIPatch:
    """What stays on the patched model between runs.

    Args:
        plan: of the runs.
        tell: is given a line about each.
    """

    plan: RunPlan
    tell: Tell | None

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
        if self._is_inactive(guider, noise):
            output: Tensor = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
            self._publish(BlendMasks(), output)
            return output
        session = open_session(self.plan, guider)
        guider.model_options[PATCH_KEY] = session
        try:
            output = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
            for report in session.reports():
                announce(report.text(), self.tell)
                LOG.info("DCI: %s", report.details())
            self.plan.memory.close()
            self._publish(session.masks.masks(), output)
            return output
        finally:
            guider.model_options.pop(PATCH_KEY, None)
            session.end()

    def _publish(self, masks: BlendMasks, output: Tensor) -> None:
        """Keep the masks of a run that has finished; its latent may be larger than it began."""
        height_px, width_px = (edge * self.plan.family.pixels_per_latent for edge in output.shape[-2:])
        stamp = RunStamp(len(output), height_px, width_px, executing_origin())
        self.plan.masks.publish(replace(masks, stamp=stamp))

    def _is_inactive(self, guider: Any, noise: Tensor) -> bool:
        """Tell whether a run is plain sampling, and say why."""
        if self.plan.settings.active_fraction <= 0.0:
            tell_switched_off(self.tell)
            return True
        reason = self._why_inactive(guider, noise)
        if reason is not None:
            tell_inactive(reason, self.tell)
        return reason is not None

    def _why_inactive(self, guider: Any, noise: Tensor) -> str | None:
        if not any(CARRIED_KEY in cond for cond in guider.conds.get("positive", [])):
            return (
                "the positive conditioning carries no auxiliary text. Make it with AuxPromptBuilder; in ConditioningConcat and "
                "ConditioningAverage it must be conditioning_to."
            )
        if torch.count_nonzero(noise) == 0:
            return "no noise is added in this run, so there is nothing for the auxiliary branch to start from."
        return None


def _sampler_sample(
    executor: Any,
    guider: Any,
    sigmas: Tensor,
    extra_args: dict[str, Any],
    callback: Any,
    noise: Tensor,
    latent_image: Tensor,
    denoise_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    session: Session | None = guider.model_options.get(PATCH_KEY)
    if session is not None:
        seed = extra_args.get("seed") or 0
        session.start(executor.class_obj, sigmas, seed, noise, latent_image, denoise_mask)
    return executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *args, **kwargs)


def _predict_noise(
    executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: Any = None
) -> Tensor:
    session: Session | None = executor.class_obj.model_options.get(PATCH_KEY)
    if session is None:
        return executor(x, timestep, model_options or {}, seed)
    return session.predict(executor, x, timestep, model_options or {}, seed)
