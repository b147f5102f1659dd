"""Guide the auxiliary branch by the guider's own formula, with the concept branch's other predictions or its own.

Guiders differ in what they ask the model for and how they combine it (CFG, dual CFG, Perp-Neg …), but all ask through the
host's ``calc_cond_batch``. It offers one place that sees whole questions, above context windows: the context handler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_patcher
from torch import Tensor

from ....dci_core.sampling.branches import denoised_from_epsilon, epsilon_from_denoised, euler_step

Conds = list[dict[str, Any]]
Ask = Callable[[list[Any]], list[Tensor]]
OTHERS_FUNCTIONS = (
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
    "sampler_calc_cond_batch_function",
    "disable_cfg1_optimization",
)


class SharedPredictions:
    """The concept branch's predictions by list of conditions, as the noise they mean for the auxiliary branch; of one model call.

    Args:
        sigma: noise level of the call.
        x: the concept's latent there, [B, D, h, w].

    ``guided`` is the concept's guided image, known when the call is finished. ``were_used`` tells whether any of them has
    answered a question (at a guidance scale of 1 none does), ``asked_model`` whether the model had to be run for one.
    """

    def __init__(self, sigma: float, x: Tensor) -> None:
        self.sigma = sigma
        self.x = x
        self.guided = x
        self.were_used = False
        self.asked_model = False
        self._denoised: list[tuple[Conds, Tensor]] = []

    def overhearing(self, model_options: dict[str, Any]) -> dict[str, Any]:
        """Return model options under which every first prediction for a list of conditions is kept."""

        def overhear(ask: Ask, conds: list[Any], x: Tensor) -> list[Tensor]:
            outputs = ask(conds)
            for cond, denoised in zip(conds, outputs):
                if cond is not None and self.prediction(cond) is None:
                    self._denoised.append((cond, denoised))
            return outputs

        return _intercepted(model_options, overhear)

    def finish(self, guided: Tensor) -> None:
        """Take note of the concept's guided image, towards which its latent moves from here."""
        self.guided = guided

    def answering(
        self, model_options: dict[str, Any], auxiliary: Conds, denoised: Tensor, sigma: float | None = None
    ) -> dict[str, Any]:
        """Return model options under which the model is not run for what is known.

        Args:
            model_options: of the call.
            auxiliary: the auxiliary branch's positive conditions.
            denoised: D_a, its prediction.
            sigma: a noise level on the way to the next call, where predictions stay as images while the concept's latent
                moves on its Euler step; None is the call's own.
        """
        level = self.sigma if sigma is None else sigma
        concept = self.x if level == self.sigma else euler_step(self.x, self.guided, self.sigma, level)

        def answer(ask: Ask, conds: list[Any], x: Tensor) -> list[Tensor]:
            return [one(ask, cond, x) for cond in conds]

        def one(ask: Ask, cond: Any, x: Tensor) -> Tensor:
            if cond is auxiliary:
                return denoised
            known = None if cond is None else self.prediction(cond)
            if known is None:
                self.asked_model |= cond is not None
                return ask([cond])[0]
            self.were_used = True
            return denoised_from_epsilon(x, epsilon_from_denoised(concept, known, level), level)

        return _intercepted(model_options, answer)

    def prediction(self, cond: Conds) -> Tensor | None:
        """Return the concept's first prediction for a list of conditions, or None."""
        return next((denoised for known, denoised in self._denoised if known is cond), None)


def guide(guider: Any, conds: dict[str, Conds], x: Tensor, timestep: Tensor, model_options: dict[str, Any]) -> Tensor:
    """Return the guider's guided image for other conditions, without what other nodes hang into guidance.

    Those functions may remember what they saw (the ``*_cfg_pp`` samplers' do), so they are for the concept branch only.
    """
    options = {key: value for key, value in model_options.items() if key not in OTHERS_FUNCTIONS}
    own = guider.conds
    guider.conds = conds
    try:
        return guider.predict_noise(x, timestep, options)
    finally:
        guider.conds = own


class _Interceptor:
    """Stands where the host looks for a context handler, and hands on to the one that was there."""

    def __init__(self, handler: Any, act: Callable[[Ask, list[Any], Tensor], list[Tensor]]) -> None:
        self._handler = handler
        self._act = act

    def should_use_context(self, *args: Any) -> bool:
        return True

    def execute(
        self,
        calculate: Callable[..., list[Tensor]],
        model: Any,
        conds: list[Any],
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
    ) -> list[Tensor]:
        def ask(wanted: list[Any]) -> list[Tensor]:
            request = (model, wanted, x, timestep, model_options)
            if self._handler is None or not self._handler.should_use_context(*request):
                return calculate(*request)
            return self._handler.execute(calculate, *request)

        return self._act(ask, conds, x)


def _intercepted(
    model_options: dict[str, Any], act: Callable[[Ask, list[Any], Tensor], list[Tensor]]
) -> dict[str, Any]:
    options = comfy.model_patcher.create_model_options_clone(model_options)
    options["context_handler"] = _Interceptor(options.get("context_handler"), act)
    return options
