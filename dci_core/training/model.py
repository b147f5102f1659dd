"""The diffusion model being fine-tuned, as training sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..prediction import Prediction
from .data import TextConditioning


class Denoiser(Protocol):
    """The network being fine-tuned: frozen but for what it exposes."""

    @property
    def projections(self) -> Mapping[str, nn.Parameter]:
        """The trained tensors of the cross-attention projections: whole weights, or low-rank factors."""
        ...

    @property
    def key_value_norms(self) -> Mapping[str, float]:
        """The 2-norm that each trained K and V weight has before training, LoRAs included, by the name in ``deltas``."""
        ...

    def __call__(self, noisy: Tensor, timesteps: Tensor, text: TextConditioning) -> Tensor:
        """Predict ε or v from x_t [B, D, h, w] and integer timesteps [B]."""
        ...

    def deltas(self) -> dict[str, Tensor]:
        """Return what training added to each weight so far, [out, in], on the CPU in float32."""
        ...


class PromptEncoder(Protocol):
    """The frozen text encoders."""

    def __call__(self, prompts: Mapping[str, Tensor], end_positions: Sequence[int]) -> TextConditioning:
        """Encode prompts given as token embeddings, one [B, 77, D] per text encoder, and the position of each EOS."""
        ...


@dataclass(frozen=True)
class DiffusionModel:
    """A model in training.

    Args:
        denoiser: the network.
        encoder: the text encoders.
        sigmas: σ of every timestep, [T], ascending.
        prediction: what the network's output means.
    """

    denoiser: Denoiser
    encoder: PromptEncoder
    sigmas: Tensor
    prediction: Prediction


def detach_first_token(projected: Tensor) -> Tensor:
    """Block the gradient of position 0 (BOS) of a K or V projection, [B, K, D]; values are unchanged."""
    return torch.cat([projected[:, :1].detach(), projected[:, 1:]], dim=1)
