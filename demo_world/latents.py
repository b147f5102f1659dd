"""What the denoiser is trained on: drawings as latents, in a ring in which the oldest are drawn anew while training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo_world.autoencoder import encode_pictures
from demo_world.denoiser import LATENT_SHAPE
from demo_world.precision import fast_matrices
from demo_world.renderer import Renderer
from demo_world.scenes import Shares, caption_variants, sample_scene
from demo_world.tokens import LENGTH, tokenize

SPELLING_SHARES = (0.8, 0.1, 0.1)  # of the three spellings of `caption_variants`
_CHANNELS_LAST = torch.channels_last


@dataclass(frozen=True)
class Batch:
    """Drawings as the denoiser sees them.

    Args:
        latents: [B, *LATENT_SHAPE], float32.
        coverage: [B, h, w], uint8, 255 where objects cover the whole latent cell.
        tokens: [B, LENGTH], int64, the caption.
    """

    latents: Tensor
    coverage: Tensor
    tokens: Tensor


class LatentRing:
    """Encoded drawings on the device that trains.

    Args:
        renderer: draws, on that device.
        autoencoder: encodes, on that device.
        size: drawings held at a time.
        shares: how often the traits of scenes occur.
        seed: of everything that is drawn; another one for each session, so that it sees other drawings.
    """

    def __init__(self, renderer: Renderer, autoencoder: Any, size: int, shares: Shares, seed: int) -> None:
        self._renderer, self._autoencoder, self._shares = renderer, autoencoder, shares
        self._rng = np.random.default_rng([20261127, seed])
        self._chances = torch.Generator().manual_seed(int(self._rng.integers(2**31)))
        device = renderer.device
        self._at_once = 128 if device.type == "cuda" else 8
        self._latents = torch.empty((size, *LATENT_SHAPE), dtype=torch.float16, device=device)
        self._coverage = torch.empty((size, *LATENT_SHAPE[1:]), dtype=torch.uint8, device=device)
        self._tokens = torch.empty((size, LENGTH), dtype=torch.int64, device=device)
        self._oldest, self._owed = 0, 0.0
        for places in torch.arange(size, device=device).split(self._at_once):
            self._draw(places)

    def __len__(self) -> int:
        return len(self._latents)

    def renew(self, count: float) -> None:
        """Draw the oldest anew, as soon as there are enough for the renderer to draw at once.

        Args:
            count: how many are to be new, beside those that still wait; 0 or more, parts add up.
        """
        self._owed += count
        drawn = min(self._at_once, len(self))
        while self._owed >= drawn:
            self._draw((self._oldest + torch.arange(drawn, device=self._latents.device)) % len(self))
            self._oldest = (self._oldest + drawn) % len(self)
            self._owed -= drawn

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        """Choose drawings.

        Args:
            count: B.
            generator: on this ring's device.
        """
        index = torch.randint(len(self), (count,), generator=generator, device=generator.device)
        return Batch(self._latents[index].float(), self._coverage[index], self._tokens[index])

    @torch.no_grad()
    def _draw(self, places: Tensor) -> None:
        """Fill some places with drawings."""
        scenes = [sample_scene(self._rng, self._shares) for _ in range(len(places))]
        spellings = self._rng.choice(len(SPELLING_SHARES), size=len(scenes), p=SPELLING_SHARES)
        captions = [caption_variants(scene)[spelling] for scene, spelling in zip(scenes, spellings)]
        drawing = self._renderer.draw(scenes, self._chances)
        with fast_matrices(self._renderer.device):
            latents = encode_pictures(self._autoencoder, drawing.pictures.contiguous(memory_format=_CHANNELS_LAST))
        covered = F.adaptive_avg_pool2d(drawing.main + drawing.companion, LATENT_SHAPE[1:])
        self._latents[places] = latents.half()
        self._coverage[places] = (covered * 255.0).round().byte()
        self._tokens[places] = tokenize(captions).to(places.device)
