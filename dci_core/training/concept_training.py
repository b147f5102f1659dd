"""ICO fine-tuning: K and V of every cross-attention layer, [T] and [I], by the model's own denoising loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from ..concept.scheme import ICOScheme
from ..errors import DivergenceError
from .data import Deck, ImageSet, RegularizationSet, TextConditioning
from .diffusion import Prediction, denoising_loss, min_snr_weight, noised_latents, training_target
from .ico import PromptWords, assemble_prompts, end_position
from .optimization import (
    MovingAverage,
    gradient_norm,
    learning_rate_factor,
    make_optimizer,
    scale_gradients,
    set_learning_rates,
)
from .report import relative_change
from .settings import Precision, TrainingSettings

SMALLEST_LOSS_SCALE = 2.0**-8


class Denoiser(Protocol):
    """The network being fine-tuned: frozen but for what it exposes."""

    key_values: Mapping[str, nn.Parameter]
    """The trained tensors of the cross-attention projections: whole weights, or low-rank factors."""

    key_value_norms: Mapping[str, float]
    """The 2-norm that each trained K and V weight has before training, LoRAs included, by the name in ``key_value_deltas``."""

    def __call__(self, noisy: Tensor, timesteps: Tensor, text: TextConditioning) -> Tensor:
        """Predict ε or v from x_t [B, D, h, w] and integer timesteps [B]."""
        ...

    def key_value_deltas(self) -> dict[str, Tensor]:
        """Return what training added to each weight so far, [out, in], on the CPU in float32."""
        ...


class PromptEncoder(Protocol):
    """The frozen text encoders."""

    def __call__(self, prompts: Mapping[str, Tensor], end_positions: Sequence[int]) -> TextConditioning:
        """Encode prompts given as token embeddings, one [B, 77, D] per text encoder, and the position of each EOS."""
        ...


class ConceptTraining:
    """One training run; call ``step`` as often as wanted, then read what was learned inside ``result``.

    Args:
        settings: see ``TrainingSettings``.
        denoiser: the network.
        encoder: the text encoders.
        sigmas: σ of every timestep, [T], ascending.
        prediction: what the network's output means.
        words: frozen word embeddings per text encoder.
        tokens: [T] before training, per text encoder [S, D].
        contexts: [I] before training, or the template's words, per text encoder [n, M+L, D] of ``prompt_scheme``.
        references: the user's images.
        regularization: class images, or None.
        captions: words added to each image's prompt, per text encoder n of [c, D], c ≥ 0 of its own; None is none.
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
        captions: Mapping[str, Sequence[Tensor]] | None = None,
    ) -> None:
        self.settings = settings
        self.denoiser = denoiser
        self.encoder = encoder
        self.sigmas = sigmas
        self.prediction = prediction
        self.words = words
        self.references = references
        self.regularization = regularization
        self.tokens = {name: _parameter(value, settings.mode.learns_tokens) for name, value in tokens.items()}
        self.contexts = {name: _parameter(value, settings.mode.learns_contexts) for name, value in contexts.items()}
        self.captions = captions or {name: [w.noun[:0]] * len(references) for name, w in words.items()}
        first = next(iter(words))
        self.end_positions = [
            end_position(words[first], settings.prompt_scheme, len(caption)) for caption in self.captions[first]
        ]
        self.optimizer = make_optimizer(settings.optimizer, self.parameter_groups())
        self.average = MovingAverage(self.parameters(), settings.ema_decay) if settings.ema_decay else None
        device = next(iter(self.tokens.values())).device.type
        self.scaler = GradScaler(device, enabled=settings.precision is Precision.FP16)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.decks = {"references": Deck(len(references), self.generator)}
        if regularization:
            self.decks["regularization"] = Deck(len(regularization), self.generator)
        self.losses: list[float] = []
        self.evaluations: list[dict[str, float]] = []
        self.start: dict[str, float] | None = None
        """What ``measured`` gave before the first step, None as long as nobody asked."""
        self.end: dict[str, float] | None = None
        """The same after the last step."""

    @property
    def steps_done(self) -> int:
        """Optimiser steps taken."""
        return len(self.losses)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return every trained tensor by name, in the order of the optimiser."""
        named = {f"key_values.{name}": value for name, value in self.denoiser.key_values.items()}
        named |= {f"tokens.{name}": value for name, value in self.tokens.items()}
        named |= {f"contexts.{name}": value for name, value in self.contexts.items()}
        return {name: value for name, value in named.items() if value.requires_grad and value.numel()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained tensors and their final rates: K and V, [T], and [I] (METHOD section 2)."""
        settings, trained = self.settings, self.parameters()
        token_rate = settings.learning_rate if settings.token_learning_rate is None else settings.token_learning_rate
        rates = {"key_values": settings.learning_rate, "tokens": token_rate, "contexts": settings.context_learning_rate}
        return [
            {"params": [value for name, value in trained.items() if name.startswith(f"{part}.")], "lr": rate}
            for part, rate in rates.items()
        ]

    def step(self) -> float:
        """Take one optimiser step and return its loss.

        Whatever is raised, the weights and the random numbers to come are as they were before the step.

        Raises:
            DivergenceError: the loss or its gradients are not finite.
        """
        random_state = self.generator.get_state()
        cards = {name: list(deck.cards) for name, deck in self.decks.items()}
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss = self._accumulate_gradients()
            self._update()
        except BaseException:
            self.generator.set_state(random_state)
            for name, deck in self.decks.items():
                deck.cards = cards[name]
            self.optimizer.zero_grad(set_to_none=True)
            raise
        self.losses.append(loss)
        return loss

    def evaluation_loss(self, draws: int = 8, seed: int = 1234) -> float:
        """Return the plain loss on the reference images for fixed noise and timesteps, comparable between steps.

        Args:
            draws: batches averaged; they take the reference images in turn.
            seed: of noise and timesteps, independent of training.
        """
        return self._fixed_loss(draws, seed, lambda indices: self._reference_text(indices), self.references)

    def evaluation_loss_without_contexts(self, draws: int = 8, seed: int = 1234) -> float | None:
        """Return the same on "V* <noun>" alone, BOS [T] [E] caption EOS: what V* has without [I]; None where no [I] are learned."""
        if not self.settings.mode.learns_contexts or not self.settings.scheme.contexts:
            return None
        return self._fixed_loss(draws, seed, self._text_without_contexts, self.references)

    def drift_loss(self, draws: int = 8, seed: int = 1234) -> float | None:
        """Return the same on the class images with their captions: how far the model forgets; None without any."""
        others = self.regularization
        return (
            None
            if others is None
            else self._fixed_loss(draws, seed, lambda indices: _rows(others.text, indices), others)
        )

    def measured(self) -> dict[str, float]:
        """Return the evaluation "loss" and, where [I] are learned, the "loss_without_contexts"; nothing is disturbed."""
        loss, without = self.evaluation_loss(), self.evaluation_loss_without_contexts()
        return {"loss": loss} if without is None else {"loss": loss, "loss_without_contexts": without}

    @contextmanager
    def result(self) -> Iterator[None]:
        """Let tokens, contexts and network be what the concept will be: their moving average, if there is one."""
        if self.average is None:
            yield
        else:
            with self.average.applied():
                yield

    def key_value_deltas(self) -> dict[str, Tensor]:
        """Return what training added to each K and V weight, on the CPU in float32."""
        return self.denoiser.key_value_deltas()

    def key_value_change(self) -> float | None:
        """Return how far K and V of the ``result`` have moved, ‖ΔW‖/‖W‖ over all of them; None where they are not trained."""
        with self.result():
            return relative_change(self.key_value_deltas(), self.denoiser.key_value_norms)

    def _accumulate_gradients(self) -> float:
        total, settings = 0.0, self.settings
        for _ in range(settings.accumulation_steps):
            loss = self._draw_loss()
            total += loss.item() / settings.accumulation_steps
            if not math.isfinite(total):
                raise self._diverged("loss", total)
            self.scaler.scale(loss / settings.accumulation_steps).backward()
        return total

    def _update(self) -> None:
        settings = self.settings
        parameters = list(self.parameters().values())
        self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(parameters)
        if not torch.isfinite(norm) and not (
            self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_LOSS_SCALE
        ):
            raise self._diverged("gradient", norm.item())
        if settings.max_gradient_norm:
            scale_gradients(parameters, norm, settings.max_gradient_norm)
        factor = learning_rate_factor(settings.schedule, self.steps_done, settings.steps, settings.warmup_steps)
        set_learning_rates(self.optimizer, factor)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update()

    def _diverged(self, what: str, value: float) -> DivergenceError:
        settings = self.settings
        return DivergenceError(
            f"The training {what} became {value} at step {self.steps_done + 1} of {settings.steps}; the checkpoints before "
            f"it are kept. Lower the learning rate (now {settings.learning_rate:g}, contexts "
            f"{settings.context_learning_rate:g}), set max_gradient_norm to 1, use precision bf16 or fp32, or check the "
            "reference images."
        )

    def _draw_loss(self) -> Tensor:
        settings = self.settings
        indices = self.decks["references"].draw(settings.batch_size)
        rows = self._rows_of(self.references, indices, self.generator)
        text, weights = self._reference_text(indices), [1.0] * len(rows)
        if self.regularization is not None:
            others = self.decks["regularization"].draw(settings.batch_size)
            rows += self._rows_of(self.regularization, others, self.generator)
            text = _joined(text, _rows(self.regularization.text, others))
            weights += [settings.prior_loss_weight] * len(others)
        weighted = torch.tensor(weights) if settings.prior_loss_weight != 1.0 else None
        return self._loss(rows, text, self.generator, weighted, settings.noise_offset, settings.min_snr_gamma)

    @torch.no_grad()
    def _fixed_loss(self, draws: int, seed: int, text: Any, images: ImageSet) -> float:
        generator = torch.Generator().manual_seed(seed)
        deck, total = Deck(len(images), generator), 0.0
        with self.result():
            for _ in range(draws):
                indices = deck.draw(self.settings.batch_size)
                rows = self._rows_of(images, indices, generator)
                total += self._loss(rows, text(indices), generator).item()
        return total / draws

    def _loss(
        self,
        rows: list[tuple[Tensor, Tensor | None]],
        text: TextConditioning,
        generator: torch.Generator,
        weights: Tensor | None = None,
        noise_offset: float = 0.0,
        min_snr_gamma: float = 0.0,
    ) -> Tensor:
        """Return the mean loss over latents and masks of any sizes; images of one size go through the network together."""
        timesteps = torch.randint(self.sigmas.shape[0], (len(rows),), generator=generator)
        sizes: dict[torch.Size, list[int]] = {}
        for number, (latents, _) in enumerate(rows):
            sizes.setdefault(latents.shape, []).append(number)
        total: Tensor | None = None
        for numbers in sizes.values():
            latents = torch.stack([rows[number][0] for number in numbers])  # [B, D, h, w]
            mask = _stacked([rows[number][1] for number in numbers], latents)
            noise = torch.randn(latents.shape, generator=generator)
            if noise_offset:
                noise += noise_offset * torch.randn(*latents.shape[:2], 1, 1, generator=generator)
            noise = noise.to(latents)
            sigma = self.sigmas[timesteps[numbers]].to(latents)
            group = None if weights is None else weights[numbers].to(latents)
            if min_snr_gamma:
                snr = min_snr_weight(self.prediction, sigma, min_snr_gamma)
                group = snr if group is None else group * snr
            noisy = noised_latents(latents, noise, sigma)
            some = text if len(sizes) == 1 else _rows(text, torch.tensor(numbers))
            predicted = self.denoiser(noisy, timesteps[numbers].to(latents.device), some)
            loss = denoising_loss(predicted, training_target(self.prediction, latents, noise, sigma), group, mask)
            share = loss if len(sizes) == 1 else loss * (len(numbers) / len(rows))
            total = share if total is None else total + share
        assert total is not None
        return total

    def _rows_of(
        self, images: ImageSet, indices: Tensor, generator: torch.Generator
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Return latents [D, h, w] and mask [1, h, w] of each drawn image, mirrored or not."""
        variants = torch.randint(images.latents[0].shape[0], (len(indices),), generator=generator)
        return [
            (images.latents[index][variant], None if images.masks is None else images.masks[index][variant])
            for index, variant in zip(indices.tolist(), variants.tolist())
        ]

    def _reference_text(self, indices: Tensor) -> TextConditioning:
        return self._text(indices, self.contexts, self.settings.prompt_scheme)

    def _text_without_contexts(self, indices: Tensor) -> TextConditioning:
        none = {name: contexts[:, :0] for name, contexts in self.contexts.items()}
        return self._text(indices, none, ICOScheme(0, 0, self.settings.scheme.concept_vectors))

    def _text(self, indices: Tensor, contexts: Mapping[str, Tensor], scheme: ICOScheme) -> TextConditioning:
        """Return the encoded prompts of some reference images, with these contexts per text encoder, [n, M+L, D]."""
        images = indices.tolist()
        prompts = {
            name: assemble_prompts(
                words,
                self.tokens[name],
                contexts[name][indices.to(contexts[name].device)],
                scheme,
                [self.captions[name][image] for image in images],
            )
            for name, words in self.words.items()
        }
        fewer = self.settings.prompt_scheme.contexts - scheme.contexts
        return self.encoder(prompts, [self.end_positions[image] - fewer for image in images])


def _parameter(value: Tensor, trained: bool) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=trained)


def _stacked(masks: list[Tensor | None], latents: Tensor) -> Tensor | None:
    """Return the masks of a batch, [B, 1, h, w], ones for images without; None when no image has one."""
    if all(mask is None for mask in masks):
        return None
    everywhere = torch.ones(1, *latents.shape[2:]).to(latents)
    return torch.stack([everywhere if mask is None else mask.to(latents) for mask in masks])


def _rows(text: TextConditioning, indices: Tensor) -> TextConditioning:
    indices = indices.to(text.context.device)
    return TextConditioning(text.context[indices], None if text.pooled is None else text.pooled[indices])


def _joined(text: TextConditioning, others: TextConditioning) -> TextConditioning:
    context = torch.cat([text.context, others.context.to(text.context)])
    if text.pooled is None or others.pooled is None:
        return TextConditioning(context)
    return TextConditioning(context, torch.cat([text.pooled, others.pooled.to(text.pooled)]))


def detach_first_token(projected: Tensor) -> Tensor:
    """Block the gradient of position 0 (BOS) of a K or V projection, [B, K, D]; values are unchanged."""
    return torch.cat([projected[:, :1].detach(), projected[:, 1:]], dim=1)
