"""The auxiliary branch of one run: where its latent stands, what the network said of it there, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ....dci_core.sampling.branches import (
    auxiliary_noise,
    composite,
    euler_step,
    fine_sigmas,
    fine_step,
    stochastic_levels,
)
from ....dci_core.sampling.settings import AuxiliarySteps, DCISettings
from .attention import DualBranchAttention, LayerRecord, RecordKey
from .auxiliary_memory import AuxiliaryMemory, AuxiliaryPass
from .guidance import Conds, SharedPredictions, guide
from .start import RunStart


class AuxiliaryBranch:
    """The auxiliary latent and its last predictions.

    At each noise level it is moved there, its pass is recorded, and, with shared guidance, it is guided once the concept
    branch's predictions of that call are known.

    Args:
        settings: of the run.
        start: of the run.
        guider: the host's.
        conds: its conditions by name, the auxiliary twins as the positive.
        attention: whose patches record it.
        memory: of auxiliary passes.

    ``x`` stands at ``sigma``. ``model_input`` is ``x`` with what an inpainting mask keeps, ``conditional`` the prediction of
    its pass, ``denoised`` the guided image, towards which it moves; before the first pass that is the latent image.
    """

    def __init__(
        self,
        settings: DCISettings,
        start: RunStart,
        guider: Any,
        conds: dict[str, Conds],
        attention: DualBranchAttention,
        memory: AuxiliaryMemory,
    ) -> None:
        self.settings = settings
        self.start = start
        self.guider = guider
        self.conds = conds
        self.attention = attention
        self.memory = memory
        self.noise = start.noise if settings.share_noise else auxiliary_noise(start.noise, start.seed)
        self.x = start.noised(self.noise)
        self.sigma = start.first_sigma
        self.mask = start.mask
        self.model_input = self.x
        self.conditional = self.denoised = start.latent_image
        self.shared = SharedPredictions(self.sigma, start.noise)  # none yet
        self.records: dict[RecordKey, LayerRecord] = {}
        self.has_record = False
        self.passes = 0
        self.deviations: list[Tensor] = []

    def is_recorded_at(self, sigma: float) -> bool:
        """Tell whether there is a record of this noise level."""
        return self.has_record and sigma == self.sigma

    def forget(self) -> None:
        """Drop the record."""
        self.records.clear()
        self.has_record = False

    def move(self, sigma: float, timestep: Tensor, model_options: dict[str, Any]) -> None:
        """Go to the noise level of a model call.

        Args:
            sigma: the noise level.
            timestep: of the call.
            model_options: of the call.
        """
        if sigma == self.sigma:
            return
        level, deviation = stochastic_levels(self.sigma, sigma, self.settings.auxiliary_eta)
        if self._moves_finely():
            self.x = self._moved_finely(level, timestep, model_options)
        else:
            self.x = euler_step(self.x, self.denoised, self.sigma, level)
        if deviation:
            self.x = self.x + deviation * auxiliary_noise(self.start.noise, self.start.seed, self.passes)
        self.sigma = sigma

    def record(self, timestep: Tensor, model_options: dict[str, Any]) -> None:
        """Run the branch once, or take the pass that an earlier run made of the same input."""
        self.forget()
        self.mask = self._mask_at(timestep, model_options)
        self.model_input = self._with_kept(self.x, timestep)
        scaled = self.start.model_sampling.calculate_input(timestep, self.x)
        self.deviations.append(scaled.flatten(1).float().std(dim=1))
        found = self.memory.find(self.model_input, self.sigma)
        if found is not None:
            self._advance_hooks(timestep, model_options)
        done = found or self._pass(timestep, model_options)
        if found is None and self._is_independent_of_strength():
            self.memory.keep(done)
        self.passes += 1
        self.records.update(done.records)
        self.has_record = True
        self.conditional = done.denoised
        if not self.settings.share_guidance:
            self.denoised = composite(done.denoised, self.start.latent_image, self.mask)

    def guide(self, shared: SharedPredictions, timestep: Tensor, model_options: dict[str, Any]) -> None:
        """Take the guided image by the guider's formula from the concept branch's other predictions of a call.

        Args:
            shared: those predictions; the way to the next noise level goes by them too.
            timestep: of the call.
            model_options: of the call.
        """
        options = shared.answering(model_options, self.conds["positive"], self.conditional)
        with _untouched_random_state(self.model_input.device):
            denoised = guide(self.guider, self.conds, self.model_input, timestep, options)
        self.shared = shared
        self.denoised = composite(denoised, self.start.latent_image, self.mask)

    def _pass(self, timestep: Tensor, model_options: dict[str, Any]) -> AuxiliaryPass:
        """Run the branch; with shared guidance only its positive, the rest follows from the concept's call."""
        options = self.attention.recording_options(model_options, self.records)
        with _untouched_random_state(self.model_input.device):
            if self.settings.share_guidance:
                positive, model = self.conds["positive"], self.guider.inner_model
                (denoised,) = comfy.samplers.calc_cond_batch(model, [positive], self.model_input, timestep, options)
            else:
                denoised = guide(self.guider, self.conds, self.model_input, timestep, options)
        return AuxiliaryPass(self.model_input, self.sigma, denoised, dict(self.records))

    def _advance_hooks(self, timestep: Tensor, model_options: dict[str, Any]) -> None:
        """Bring the keyframes of the twins' hooks to a timestep, as a pass of the network would."""
        patcher = self.guider.inner_model.current_patcher
        for cond in self.conds["positive"]:
            if cond.get("hooks") is not None:
                patcher.prepare_hook_patches_current_keyframe(timestep, cond["hooks"], model_options)

    def _is_independent_of_strength(self) -> bool:
        """Shared guidance lets λ in: in single steps by the concept's other predictions, in fine ones by its way between calls."""
        first = 1 if self.settings.auxiliary_steps is AuxiliarySteps.FINE else 2
        return not self.shared.were_used or self.passes < first

    def _moves_finely(self) -> bool:
        """Without shared predictions the way is a straight line, and what only the model can answer has its price."""
        fine = self.settings.auxiliary_steps is AuxiliarySteps.FINE
        return fine and self.shared.were_used and not self.shared.asked_model

    def _moved_finely(self, level: float, timestep: Tensor, model_options: dict[str, Any]) -> Tensor:
        shared, guider = self.shared, self.guider
        is_plain = type(guider) is comfy.samplers.CFGGuider and guider.cfg and self.mask is None
        unconditional = shared.prediction(self.conds["negative"]) if is_plain else None
        if unconditional is None:
            return self._moved_step_by_step(level, timestep, model_options)
        return fine_step(
            self.x, shared.x, self.conditional, unconditional, shared.guided, guider.cfg, self.sigma, level
        )

    def _moved_step_by_step(self, level: float, timestep: Tensor, model_options: dict[str, Any]) -> Tensor:
        """Take fine steps by a guider's own formula, whatever it is, and within an inpainting mask."""
        x = self.x
        levels = fine_sigmas(self.sigma, level)
        for now, following in zip(levels, levels[1:]):
            between = now != self.sigma
            here = torch.full_like(timestep, now)
            denoised = self._denoised_between(x, now, here, model_options) if between else self.denoised
            x = euler_step(x, denoised, now, following)
        return x

    def _denoised_between(self, x: Tensor, sigma: float, timestep: Tensor, model_options: dict[str, Any]) -> Tensor:
        """Return the guided image on the way to the next call, with the network's predictions of the last one."""
        options = self.shared.answering(model_options, self.conds["positive"], self.conditional, sigma)
        with _untouched_random_state(x.device):
            denoised = guide(self.guider, self.conds, self._with_kept(x, timestep), timestep, options)
        return composite(denoised, self.start.latent_image, self.mask)

    def _mask_at(self, timestep: Tensor, model_options: dict[str, Any]) -> Tensor | None:
        """Return the inpainting mask as other nodes have it at a timestep (Differential Diffusion)."""
        mask = self.start.mask
        if mask is None or "denoise_mask_function" not in model_options:
            return mask
        extra = {"model": self.guider, "sigmas": self.start.sigmas}
        return model_options["denoise_mask_function"](timestep, mask, extra_options=extra)

    def _with_kept(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Return a latent with what the inpainting mask keeps, noised as it is."""
        if self.mask is None:
            return x
        kept = self.guider.inner_model.scale_latent_inpaint(
            x=x, sigma=timestep, noise=self.noise, latent_image=self.start.latent_image
        )
        return composite(x, kept, self.mask)


@contextmanager
def _untouched_random_state(device: torch.device) -> Iterator[None]:
    """Keep the global generators as they are: patches such as token merging draw from them in every forward."""
    others = [device] if device.type != "cpu" and hasattr(torch, device.type) else []
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        yield
