"""Auxiliary passes kept from the first run of a λ sweep, so that the runs after it need not repeat them.

λ acts on the concept branch alone, so as long as the auxiliary branch's own input is the same, bit for bit, so
are its prediction and its record. What is kept lies on the CPU and is found by that input, never by counting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .attention import LayerRecord, Records


@dataclass(frozen=True)
class AuxiliaryPass:
    """One forward of the auxiliary branch.

    Args:
        model_input: what went in, [B, D, h, w].
        sigma: its noise level.
        denoised: with shared guidance the conditional prediction, with exact guidance the guided one, like
            ``model_input``.
        records: of every blended layer, pair of conditionings and context window.
    """

    model_input: Tensor
    sigma: float
    denoised: Tensor
    records: Records

    def to(self, device: torch.device) -> AuxiliaryPass:
        """Return the same pass on another device."""
        records = {key: _record_on(record, device) for key, record in self.records.items()}
        model_input, denoised = self.model_input.to(device), self.denoised.to(device)
        return replace(self, model_input=model_input, denoised=denoised, records=records)


class AuxiliaryMemory:
    """The passes of one run, for later runs with the same seed, conditionings, model and settings but another λ.

    Args:
        is_open: False makes a memory that keeps nothing, for runs on their own.
    """

    def __init__(self, is_open: bool = True) -> None:
        self._is_open = is_open
        self._passes: list[AuxiliaryPass] = []

    def keep(self, auxiliary_pass: AuxiliaryPass) -> None:
        """Keep a pass of the first run; later runs add nothing."""
        if self._is_open:
            self._passes.append(auxiliary_pass.to(torch.device("cpu")))

    def close(self) -> None:
        """End the first run."""
        self._is_open = False

    def find(self, model_input: Tensor, sigma: float) -> AuxiliaryPass | None:
        """Return the pass with exactly this input, or None; records stay on the CPU until their layer needs them."""
        for kept in self._passes:
            if kept.sigma == sigma and torch.equal(kept.model_input, model_input.cpu()):
                return replace(kept, model_input=model_input, denoised=kept.denoised.to(model_input.device))
        return None


def _record_on(record: LayerRecord, device: torch.device) -> LayerRecord:
    saliency = None if record.saliency is None else record.saliency.to(device)
    return LayerRecord(record.output.to(device), saliency)
