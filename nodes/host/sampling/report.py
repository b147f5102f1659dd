"""Say what a run did, in the log and on the node, so that "λ does nothing" can be explained."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ....dci_core.log import LOG
from ....dci_core.prompt.tokens import TokenSet
from ....dci_core.sampling.settings import AuxiliarySteps, Blend, DCISettings
from ..node_text import Tell, announce, show

LEAST_DEVIATION, MOST_DEVIATION = 0.55, 1.3
"""Two independent noises that come together pass through a deviation of √½; the published code's 200 steps go down to 0.62."""


@dataclass(frozen=True)
class RunReport:
    """What a finished run did.

    Args:
        settings: of the run.
        layers: cross-attention layers that were patched.
        tokens: T(P) and T(P_a) of each blended conditioning.
        active_steps: of the sampler's schedule.
        steps: of the whole schedule.
        active_calls: model calls with two branches; some samplers call the model more than once a step.
        calls: all model calls.
        mean_weight: mean W_a over layers, heads, image tokens and active calls; nan when none was computed.
        context_windows: whether the host cut the batch into windows.
        deviations: standard deviation of the auxiliary latent as the network saw it, per row and active call; about 1 is
            what it knows.
        areas: whether a blended conditioning covers an area only.
        weights: what there is to say of the auxiliary branch's own weights, or "".
        not_carried: names of concepts that the conditioning speaks of and the model does not carry.
    """

    settings: DCISettings
    layers: int
    tokens: tuple[tuple[TokenSet, TokenSet], ...]
    active_steps: int
    steps: int
    active_calls: int
    calls: int
    mean_weight: float
    context_windows: bool = False
    areas: bool = False
    deviations: tuple[float, ...] = ()
    weights: str = ""
    not_carried: tuple[str, ...] = ()

    def text(self) -> str:
        """Return what a user wants to know, in one line."""
        return "; ".join([f"DCI on in {self._span()}", *self._remarks()])

    def details(self) -> str:
        """Return the facts behind it, in one line."""
        sets = "; ".join(
            f"concept tokens {_share(concept)}, context tokens {_share(auxiliary)}"
            for concept, auxiliary in self.tokens
        )
        return (
            f"{self.layers} layers patched; {sets}; {self.active_steps} of {self.steps} steps active "
            f"({self.active_calls} of {self.calls} model calls); mean auxiliary weight "
            f"{self._weight()}"
        )

    def _span(self) -> str:
        """The sampler's steps in which both branches ran: its first ones."""
        if self.active_steps == self.steps:
            return f"all {self.steps} steps"
        return f"step{'s 1 to' if self.active_steps > 1 else ''} {self.active_steps} of {self.steps}"

    def _cure(self) -> str:
        if self.settings.share_guidance and self.settings.auxiliary_steps is AuxiliarySteps.SINGLE:
            return ": set auxiliary_steps to fine, lower cfg or take more steps"
        return ""

    def _weight(self) -> str:
        return "not computed" if math.isnan(self.mean_weight) else f"{self.mean_weight:.3g}"

    def _remarks(self) -> Iterable[str]:
        if not math.isnan(self.mean_weight):
            yield f"the scene had {100 * self.mean_weight:.0f} % of the say"
        if self.not_carried:
            yield (
                f"the model does not carry {' and '.join(self.not_carried)}, of which the positive speaks: connect the model that "
                "Apply Concept returns"
            )
        if self.weights:
            yield self.weights
        if self.settings.blend is not Blend.MASKS:
            yield f"blend {self.settings.blend.value} uses no masks, so λ has no effect"
        elif self.settings.mask_preset.remark:
            yield self.settings.mask_preset.remark
        if self.context_windows:
            yield "masks are not kept for context windows"
        if self.areas:
            yield "masks are not kept for conditionings with an area"
        if any(not auxiliary.selected for _, auxiliary in self.tokens):
            yield "the prompt says nothing beside the subject, so there is no context to let in"
        if self.deviations and not (LEAST_DEVIATION <= min(self.deviations) <= max(self.deviations) <= MOST_DEVIATION):
            yield (
                f"the auxiliary latent left its range (deviation {min(self.deviations):.2f} … {max(self.deviations):.2f}, about 1 is "
                f"usual), so what it lends may be spoilt{self._cure()}"
            )


def tell_switched_off(tell: Tell | None) -> None:
    """Say that the user has switched DCI off."""
    announce("switched off, active_fraction is 0", tell)


def tell_inactive(reason: str, tell: Tell | None) -> None:
    """Warn that a run was plain sampling although DCI is switched on."""
    text = f"inactive, this is plain sampling: {reason}"
    LOG.warning("DCI is %s", text)
    show(text, tell)


def _share(tokens: TokenSet) -> str:
    return f"{len(tokens.selected)} of {len(tokens.prompt)}"
