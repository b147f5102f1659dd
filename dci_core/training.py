"""ICO fine-tuning: K and V of every cross-attention layer, [T] and [I], by the model's own denoising loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from .diffusion import Prediction, denoising_loss, noised_latents, training_target
from .errors import UserInputError
from .ico import ICOScheme, PromptWords, assemble_prompts, end_position


@dataclass(frozen=True)
class TrainingSettings:
    """How a concept is trained.

    Args:
        scheme: M, L and S.
        steps: optimiser steps, 1 … 100 000.
        batch_size: reference images per step, 1 … 64; with regularisation as many class images are added.
        learning_rate: final rate of K, V and [T]; nothing multiplies it.
        context_learning_rate: final rate of [I].
        flip: mirror each image with probability ½; whoever makes the ``ImageSet`` adds the mirrored latents.
        seed: of everything random.
    """

    scheme: ICOScheme = field(default_factory=ICOScheme)
    steps: int = 500
    batch_size: int = 2
    learning_rate: float = 2e-5
    context_learning_rate: float = 2e-4
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (("steps", 1, 100_000), ("batch_size", 1, 64)):
            if not least <= getattr(self, name) <= most:
                raise UserInputError(f"{name} must be between {least} and {most}, but got {getattr(self, name)}.")
        for name in ("learning_rate", "context_learning_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserInputError(
                    f"{name} must be between 0 and 1, but got {getattr(self, name)}. 2e-5 (context 2e-4) is the default."
                )


@dataclass(frozen=True)
class TextConditioning:
    """What a text encoder gives the network: context [B, K, D] and, for SDXL, pooled [B, D']."""

    context: Tensor
    pooled: Tensor | None = None


class Denoiser(Protocol):
    """The network being fine-tuned: frozen but for the K and V weights it exposes."""

    key_values: Mapping[str, nn.Parameter]

    def __call__(self, noisy: Tensor, timesteps: Tensor, text: TextConditioning) -> Tensor:
        """Predict ε or v from x_t [B, D, h, w] and integer timesteps [B]."""
        ...

    def initial_key_values(self) -> Mapping[str, Tensor]:
        """Return the weights that ``key_values`` started from, by the same names."""
        ...


class PromptEncoder(Protocol):
    """The frozen text encoders."""

    def __call__(self, prompts: Mapping[str, Tensor], end_position: int) -> TextConditioning:
        """Encode prompts given as token embeddings, one [B, 77, D] per text encoder."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """Latents of the images: [n, F, D, h, w], F = 2 with the mirrored one behind, or 1 without."""

    latents: Tensor

    def __len__(self) -> int:
        return self.latents.shape[0]


@dataclass(frozen=True)
class RegularizationSet(ImageSet):
    """Class images with the encoded captions they keep: context [m, K, D], pooled [m, D'] or None."""

    text: TextConditioning


class Deck:
    """Draw image indices so that each comes once before any comes again."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self._size = size
        self._generator = generator
        self._cards: list[int] = []

    def draw(self, count: int) -> Tensor:
        """Return ``count`` indices, [count]."""
        drawn: list[int] = []
        while len(drawn) < count:
            if not self._cards:
                self._cards = torch.randperm(self._size, generator=self._generator).tolist()
            drawn.append(self._cards.pop())
        return torch.tensor(drawn)


class ConceptTraining:
    """One training run; call ``step`` as often as wanted, then read ``tokens``, ``contexts`` and ``key_value_deltas``.

    Args:
        settings: see ``TrainingSettings``.
        denoiser: the network.
        encoder: the text encoders.
        sigmas: σ of every timestep, [T], ascending.
        prediction: what the network's output means.
        words: frozen word embeddings per text encoder.
        tokens: [T] before training, per text encoder [S, D].
        contexts: [I] before training, per text encoder [n, M+L, D].
        references: the user's images.
        regularization: class images, or None.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        denoiser: Denoiser,
        encoder: PromptEncoder,
        sigmas: Tensor,
        prediction: Prediction,
        words: Mapping[str, PromptWords],
        tokens: Mapping[str, Tensor],
        contexts: Mapping[str, Tensor],
        references: ImageSet,
        regularization: RegularizationSet | None = None,
    ) -> None:
        self.settings = settings
        self.denoiser = denoiser
        self.encoder = encoder
        self.sigmas = sigmas
        self.prediction = prediction
        self.words = words
        self.references = references
        self.regularization = regularization
        self.tokens = {name: nn.Parameter(value.detach().clone()) for name, value in tokens.items()}
        self.contexts = {name: nn.Parameter(value.detach().clone()) for name, value in contexts.items()}
        self.end_position = {end_position(w, settings.scheme) for w in words.values()}.pop()
        self.optimizer = torch.optim.AdamW(self.parameter_groups(), weight_decay=0.0)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._reference_deck = Deck(len(references), self._generator)
        self._regularization_deck = Deck(len(regularization), self._generator) if regularization else None

    def parameter_groups(self) -> list[dict[str, object]]:
        """Return the trained tensors and their final rates: K/V and [T] together, [I] apart (METHOD section 2)."""
        main = [*self.denoiser.key_values.values(), *self.tokens.values()]
        return [
            {"params": main, "lr": self.settings.learning_rate},
            {"params": list(self.contexts.values()), "lr": self.settings.context_learning_rate},
        ]

    def step(self) -> float:
        """Take one optimiser step and return its loss.

        Raises:
            UserInputError: the loss is not finite; the weights are left as they were before the step.
        """
        loss = self._draw_loss(self._generator, self._reference_deck, self._regularization_deck)
        value = loss.item()
        if not math.isfinite(value):
            raise UserInputError(
                f"The training loss became {value}. Lower the learning rate (now {self.settings.learning_rate:g}, "
                f"contexts {self.settings.context_learning_rate:g}), or check the reference images."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return value

    @torch.no_grad()
    def evaluation_loss(self, draws: int = 8, seed: int = 1234) -> float:
        """Return the loss on the reference images for fixed noise and timesteps, comparable between steps.

        Args:
            draws: batches averaged; they take the reference images in turn.
            seed: of noise and timesteps, independent of training.
        """
        generator = torch.Generator().manual_seed(seed)
        deck = Deck(len(self.references), generator)
        return sum(self._draw_loss(generator, deck, None).item() for _ in range(draws)) / draws

    def key_value_deltas(self) -> dict[str, Tensor]:
        """Return what training added to each K and V weight, on the CPU in float32."""
        initial = self.denoiser.initial_key_values()
        return {
            name: weight.detach().cpu().float() - initial[name].cpu().float()
            for name, weight in self.denoiser.key_values.items()
        }

    def _draw_loss(self, generator: torch.Generator, deck: Deck, regularization_deck: Deck | None) -> Tensor:
        indices = deck.draw(self.settings.batch_size)
        latents = self._latents(self.references, indices, generator)
        text = self._reference_text(indices)
        if regularization_deck is not None and self.regularization is not None:
            class_indices = regularization_deck.draw(self.settings.batch_size)
            latents = torch.cat([latents, self._latents(self.regularization, class_indices, generator)])
            text = _joined(text, self.regularization.text, class_indices)
        timesteps = torch.randint(self.sigmas.shape[0], (latents.shape[0],), generator=generator)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        sigma = self.sigmas[timesteps].to(latents)
        noisy = noised_latents(latents, noise, sigma)
        predicted = self.denoiser(noisy, timesteps.to(latents.device), text)
        return denoising_loss(predicted, training_target(self.prediction, latents, noise, sigma))

    def _latents(self, images: ImageSet, indices: Tensor, generator: torch.Generator) -> Tensor:
        variants = images.latents.shape[1]
        variant = torch.randint(variants, (len(indices),), generator=generator)
        return images.latents[indices, variant]

    def _reference_text(self, indices: Tensor) -> TextConditioning:
        prompts = {
            name: assemble_prompts(
                words,
                self.tokens[name],
                self.contexts[name][indices.to(self.contexts[name].device)],
                self.settings.scheme,
            )
            for name, words in self.words.items()
        }
        return self.encoder(prompts, self.end_position)


def _joined(text: TextConditioning, others: TextConditioning, indices: Tensor) -> TextConditioning:
    context = torch.cat([text.context, others.context[indices].to(text.context)])
    if text.pooled is None or others.pooled is None:
        return TextConditioning(context)
    return TextConditioning(context, torch.cat([text.pooled, others.pooled[indices].to(text.pooled)]))


def detach_first_token(projected: Tensor) -> Tensor:
    """Block the gradient of position 0 (BOS) of a K or V projection, [B, K, D]; values are unchanged."""
    return torch.cat([projected[:, :1].detach(), projected[:, 1:]], dim=1)


def run_training(training: ConceptTraining, on_step: Callable[[int, float], None]) -> list[float]:
    """Run all steps and return their losses.

    Args:
        training: a run at its start.
        on_step: called after each step with its 1-based number and loss; whatever it raises ends the run.
    """
    losses = []
    for number in range(1, training.settings.steps + 1):
        losses.append(training.step())
        on_step(number, losses[-1])
    return losses
