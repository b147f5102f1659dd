"""What a run starts from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ....dci_core.sampling.branches import is_active
from ....dci_core.sampling.strength import MapSize, active_progress

SAME_LEVEL = 1e-5  # by how much of themselves two noise levels may differ that are one


@dataclass(frozen=True)
class RunStart:
    """All that is known of a run when its sampler starts.

    Args:
        noise: the concept branch's, [B, D, h, w]. Until the first model call it may still be shuffled in place (FreeNoise).
        latent_image: what the noise is added to, like ``noise``.
        mask: inpainting mask, 1 where the image is made anew, or None.
        sigmas: noise levels of the schedule.
        seed: of the run.
        has_full_noise: whether the schedule begins at the model's highest noise level.
        sigma_end: where the active part ends, see ``sigma_at_end``.
        model_sampling: the host's, of the model.
    """

    noise: Tensor
    latent_image: Tensor
    mask: Tensor | None
    sigmas: Tensor
    seed: int
    has_full_noise: bool
    sigma_end: float
    model_sampling: Any

    @property
    def first_sigma(self) -> float:
        """The schedule's first noise level."""
        return float(self.sigmas[0])

    @property
    def latent_size(self) -> MapSize:
        """(h, w)."""
        return self.noise.shape[-2], self.noise.shape[-1]

    @property
    def steps(self) -> int:
        """Number of the schedule's steps."""
        return len(self.sigmas) - 1

    @property
    def active_steps(self) -> int:
        """Number of those in which both branches run."""
        return sum(map(self.is_active, self.sigmas[:-1].tolist()))

    def step_at(self, sigma: float) -> int:
        """Return the number, from 1, of the last step that begins at a noise level or above."""
        return sum(level >= sigma * (1 - SAME_LEVEL) for level in self.sigmas[:-1].tolist())

    def is_active(self, sigma: float) -> bool:
        """Tell whether both branches run at a noise level."""
        return is_active(sigma, self.sigma_end)

    def timestep(self, sigma: float) -> float:
        """Return the model's timestep at a noise level."""
        return float(self.model_sampling.timestep(torch.tensor([sigma])))

    def progress(self, timestep: float) -> float:
        """Return which share of the active part is over at a timestep, 0 … 1."""
        return active_progress(timestep, *self._active_timesteps)

    def noised(self, noise: Tensor) -> Tensor:
        """Return the latent that a run starts from with this noise, [B, D, h, w]."""
        scaling = self.model_sampling.noise_scaling
        return scaling(self.sigmas[0], noise.clone(), self.latent_image, self.has_full_noise)

    @cached_property
    def _active_timesteps(self) -> tuple[float, float]:
        last_sigma = max(self.sigma_end, float(self.model_sampling.sigma_min))  # some models have no timestep at 0
        return self.timestep(self.first_sigma), self.timestep(last_sigma)
