"""ICO fine-tuning: K and V of every cross-attention layer, [T] and [I], by the model's own denoising loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from ..errors import DivergenceError
from .data import Deck, ImageSet, RegularizationSet, TextConditioning
from .loss import Batch, batch_loss
from .model import DiffusionModel
from .optimization import (
    MovingAverage,
    gradient_norm,
    learning_rate_factor,
    make_optimizer,
    scale_gradients,
    set_learning_rates,
)
from .prompts import PromptParts, TrainingPrompts
from .report import relative_change
from .settings import Precision, TrainingSettings

SMALLEST_LOSS_SCALE = 2.0**-8
EVALUATION_DRAWS = 8
"""Batches of fixed noise and timesteps that an evaluation averages."""


class ConceptTraining:
    """One training run; call ``step`` as often as wanted, then read what was learned inside ``result``.

    Args:
        settings: see ``TrainingSettings``.
        model: what is fine-tuned.
        prompts: of the references, before training.
        references: the user's images.
        regularization: class images, or None.

    Raises:
        UserInputError: a prompt does not fit into the text encoder.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        model: DiffusionModel,
        prompts: PromptParts,
        references: ImageSet,
        regularization: RegularizationSet | None = None,
    ) -> None:
        self.settings = settings
        self.model = model
        self.prompts = TrainingPrompts(prompts, settings)
        self.references = references
        self.regularization = regularization
        self.optimizer = make_optimizer(settings.optimizer, self.parameter_groups())
        self.average = MovingAverage(self.parameters(), settings.ema_decay) if settings.ema_decay else None
        device = next(iter(self.prompts.tokens.values())).device.type
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
        """Optimizer steps taken."""
        return len(self.losses)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return every trained tensor by name, in the order of the optimizer.

        The names are keys of training states, for ever: "key_values." stands before every trained projection, before Q and
        the output weights of mode cross_attention too.
        """
        named = {f"key_values.{name}": value for name, value in self.model.denoiser.projections.items()}
        named |= {f"tokens.{name}": value for name, value in self.prompts.tokens.items()}
        named |= {f"contexts.{name}": value for name, value in self.prompts.contexts.items()}
        return {name: value for name, value in named.items() if value.requires_grad and value.numel()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained tensors and their final rates: projections, [T], and [I] (METHOD section 2)."""
        settings, trained = self.settings, self.parameters()
        token_rate = settings.learning_rate if settings.token_learning_rate is None else settings.token_learning_rate
        rates = {"key_values": settings.learning_rate, "tokens": token_rate, "contexts": settings.context_learning_rate}
        return [
            {"params": [value for name, value in trained.items() if name.startswith(f"{part}.")], "lr": rate}
            for part, rate in rates.items()
        ]

    def step(self) -> float:
        """Take one optimizer step and return its loss.

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

    def evaluation_loss(self, draws: int | None = None, seed: int = 1234) -> float:
        """Return the plain loss on the reference images for fixed noise and timesteps, comparable between steps.

        Args:
            draws: batches averaged; they take the reference images in turn. None is ``EVALUATION_DRAWS``.
            seed: of noise and timesteps, independent of training.
        """
        return self._fixed_loss(draws, seed, self.reference_text, self.references)

    def evaluation_loss_without_contexts(self, draws: int | None = None, seed: int = 1234) -> float | None:
        """Return the same on "V* <noun>" alone, BOS [T] [E] caption EOS: what V* has without [I]; None where no [I] are learned."""
        if not self.settings.mode.learns_contexts or not self.settings.scheme.contexts:
            return None

        def text(indices: Tensor) -> TextConditioning:
            return self.prompts.encode_without_contexts(self.model.encoder, indices)

        return self._fixed_loss(draws, seed, text, self.references)

    def drift_loss(self, draws: int | None = None, seed: int = 1234) -> float | None:
        """Return the same on the class images with their captions: how far the model forgets; None without any."""
        others = self.regularization
        return None if others is None else self._fixed_loss(draws, seed, others.text.rows, others)

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

    def deltas(self) -> dict[str, Tensor]:
        """Return what training added to each weight, on the CPU in float32."""
        return self.model.denoiser.deltas()

    def key_value_change(self) -> float | None:
        """Return how far K and V of the ``result`` have moved, ‖ΔW‖/‖W‖ over all of them; None where they are not trained."""
        with self.result():
            return relative_change(self.deltas(), self.model.denoiser.key_value_norms)

    def draw_loss(self) -> Tensor:
        """Return the loss of the next batch, differentiable."""
        settings = self.settings
        indices = self.decks["references"].draw(settings.batch_size)
        images, weights = self.references.draw(indices, self.generator), [1.0] * len(indices)
        text = self.reference_text(indices)
        if self.regularization is not None:
            others = self.decks["regularization"].draw(settings.batch_size)
            images += self.regularization.draw(others, self.generator)
            text = text.joined(self.regularization.text.rows(others))
            weights += [settings.prior_loss_weight] * len(others)
        batch = Batch(images, text, torch.tensor(weights) if settings.prior_loss_weight != 1.0 else None)
        return batch_loss(self.model, batch, self.generator, settings.noise_offset, settings.min_snr_gamma)

    def reference_text(self, indices: Tensor) -> TextConditioning:
        """Return the encoded prompts of some reference images, [B] indices."""
        return self.prompts.encode(self.model.encoder, indices)

    def _accumulate_gradients(self) -> float:
        total, settings = 0.0, self.settings
        for _ in range(settings.accumulation_steps):
            loss = self.draw_loss()
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

    @torch.no_grad()
    def _fixed_loss(
        self, draws: int | None, seed: int, text: Callable[[Tensor], TextConditioning], images: ImageSet
    ) -> float:
        draws = EVALUATION_DRAWS if draws is None else draws
        generator = torch.Generator().manual_seed(seed)
        deck, total = Deck(len(images), generator), 0.0
        with self.result():
            for _ in range(draws):
                indices = deck.draw(self.settings.batch_size)
                drawn = images.draw(indices, generator)
                total += batch_loss(self.model, Batch(drawn, text(indices)), generator).item()
        return total / draws
