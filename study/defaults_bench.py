"""Train and sample small worlds' models for measurements of defaults, through the pack's own functions and the host's samplers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from study.pack import NAME, load_pack
from study.worlds import PLACEHOLDER, Subject, World

STEPS, GUIDANCE = 20, 7.0
PICTURES = 4  # of each prompt, plainly sampled
PAIRS = 2  # with two branches


@dataclass(frozen=True)
class Recipe:
    """How a subject is trained. Rates are multiples of the preset's (the authors', scaled to the model).

    Args:
        key_values, tokens, contexts: of the rates of K and V, [T] and [I].
        class_images: how many, drawn by the base model.
        batch: reference images a step; as many class images are added.
        steps: optimiser steps.
    """

    key_values: float = 1.0
    tokens: float = 1.0
    contexts: float = 1.0
    class_images: int = 100
    batch: int = 2
    steps: int = 900

    @property
    def name(self) -> str:
        rates = "-".join(f"{rate:g}" for rate in (self.key_values, self.tokens, self.contexts))
        return f"rates {rates}, {self.class_images} class images, batch {self.batch}"


PATHS: dict[str, dict[str, Any]] = {
    "shared, single steps": {"auxiliary_steps": "single", "share_noise": False},
    "shared, single steps, the concept's noise": {"auxiliary_steps": "single", "share_noise": True},
    "shared, fine steps": {"auxiliary_steps": "fine", "share_noise": False},
    "shared, fine steps, the concept's noise": {"auxiliary_steps": "fine", "share_noise": True},
    "shared, stable factor": {"auxiliary_steps": "single", "share_noise": False, "stable": True},
    "exact": {"share_guidance": False, "share_noise": False},
    "exact, the concept's noise": {"share_guidance": False, "share_noise": True},
}
AUTHORS = PATHS["shared, single steps"]


@dataclass
class Drawn:
    """Pictures of one run and what was seen of its auxiliary branch."""

    latents: Tensor
    deviations: list[float] = field(default_factory=list)
    correlations: list[float] = field(default_factory=list)
    weight: float = float("nan")


class Bench:
    """A world's model, loaded once.

    Args:
        world: to measure in.
        folder: where trained concepts and class images are kept.
    """

    def __init__(self, world: World, folder: Path) -> None:
        load_pack()
        self.world, self.folder = world, folder / world.name
        part = lambda name: import_module(f"{NAME}.{name}")  # noqa: E731
        self.applying, self.conditioning = (
            part("nodes.host.concepts.applying"),
            part("nodes.host.sampling.conditioning"),
        )
        self.sampling, self.run, self.weights = (
            part("nodes.host.sampling.patch"),
            part("nodes.host.sampling.run"),
            part("nodes.host.weights"),
        )
        self.presets, self.reports = part("dci_core.training.presets"), part("dci_core.training.report")
        self.scale = part("nodes.host.training.model_scale")
        self.settings, self.files = part("dci_core.sampling.settings"), part("dci_core.concept.file")
        self.training_settings, self.training_run = part("dci_core.training.settings"), part("dci_core.training.run")
        self.ico, self.inputs, self.trainer = (
            part("dci_core.training.ico"),
            part("nodes.host.training.inputs"),
            part("nodes.host.training.trainer"),
        )
        self.nodes = import_module("nodes")  # the host's
        import_module("comfy.utils").PROGRESS_BAR_ENABLED = False
        self.model, self.clip, self.vae = world.load()
        self.seen: list[Any] = []
        self._watch()

    def rates(self, recipe: Recipe) -> tuple[float, float, float]:
        """Final rates of K and V, [T] and [I]: the authors' on SD1.x, scaled to this model's weights and embeddings."""
        values = self.presets.run_values(self.presets.PresetName.WITH_DCI, self.scale.scale_of(self.model, self.clip))
        return (
            recipe.key_values * values.learning_rate,
            recipe.tokens * values.token_learning_rate,
            recipe.contexts * values.context_learning_rate,
        )

    def concept_file(self, subject: Subject, recipe: Recipe, step: int) -> Path | None:
        found = list(self._run_folder(subject, recipe).glob(f"*/step_{step:06d}.safetensors"))
        return found[0] if found else None

    def train(self, subject: Subject, recipe: Recipe, checkpoints: Sequence[int]) -> None:
        """Train a subject, keeping the concept of each checkpoint."""
        if self.concept_file(subject, recipe, max(checkpoints)):
            return
        key_values, tokens, contexts = self.rates(recipe)
        settings = self.training_settings.TrainingSettings(
            scheme=self.ico.ICOScheme(1, 1, 3),
            steps=recipe.steps,
            batch_size=recipe.batch,
            learning_rate=key_values,
            token_learning_rate=tokens,
            context_learning_rate=contexts,
            seed=1,
            evaluate_every=min(checkpoints),
        )
        others, captions = self.class_images(subject.noun, recipe.class_images) if recipe.class_images else ([], [])
        with torch.inference_mode():
            inputs = self.inputs.TrainingInputs(
                images=self.world.references(subject),
                class_noun=subject.noun,
                regularization_images=others,
                regularization_captions=captions,
                resolution_px=self.world.size_px,
            )
            storage = self.trainer.Storage(
                self._run_folder(subject, recipe), self.training_run.CheckpointPlan(steps=tuple(checkpoints))
            )
            self.trainer.train_concept(
                self.model, self.clip, self.vae, inputs, settings, lambda step, loss: None, PLACEHOLDER, storage=storage
            )

    def class_images(self, noun: str, count: int) -> tuple[list[Tensor], list[str]]:
        """Pictures that the base model draws of a noun, in many scenes; drawn once and kept."""
        path = self.folder / "class_images" / f"{noun}.pt"
        captions = self.world.class_captions(noun)
        captions = [captions[number % len(captions)] for number in range(400)]
        drawn = 100 if count <= 100 else 400
        path = path.with_stem(f"{noun}_{drawn}")
        if not path.exists():
            pictures = []
            for start in range(0, drawn, 20):
                latents = self.plain(self.model, self.clip, captions[start : start + 20], 70000 + start)
                pictures.append((self.decode(latents) * 255).round().byte())
            path.parent.mkdir(parents=True, exist_ok=True)
            mine = path.with_suffix(f".{os.getpid()}")
            torch.save(torch.cat(pictures), mine)
            mine.replace(path)
        images = torch.load(path, weights_only=True)[:count].float() / 255
        return list(images), captions[:count]

    def applied(self, path: Path, add_class_noun: bool = True) -> tuple[Any, Any]:
        """The model and the CLIP with a concept; the latter reads V* alone as written when told to."""
        concept = self.files.load_concept(path)
        with torch.inference_mode():
            return self.applying.apply_concept(self.model, self.clip, concept, 1.0, add_class_noun)  # type: ignore[no-any-return]

    def change(self, path: Path) -> float:
        """How far K and V have moved, relative to their norm."""
        deltas = self.files.load_concept(path).key_value_deltas
        weights = self.weights.key_value_weights(self.model)
        norms = {name: float(weights[name].float().norm()) for name in deltas}
        return self.reports.relative_change(deltas, norms)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def encode(self, clip: Any, texts: Sequence[str]) -> list[Any]:
        """One conditioning with a row for each text."""
        found = [clip.encode_from_tokens(clip.tokenize(text), return_pooled=True) for text in texts]
        longest = max(cond.shape[1] for cond, _ in found)
        assert all(cond.shape[1] == longest for cond, _ in found)
        return [[torch.cat([cond for cond, _ in found]), {"pooled_output": torch.cat([pooled for _, pooled in found])}]]

    @torch.inference_mode()
    def plain(
        self,
        model: Any,
        clip: Any,
        texts: Sequence[str],
        seed: int,
        steps: int = STEPS,
        cfg: float = 5.0,
        sampler: str = "euler",
    ) -> Tensor:
        return self._sample(
            model, self.encode(clip, texts), self.encode(clip, [""]), len(texts), seed, steps, cfg, sampler
        )

    @torch.inference_mode()
    def dual(
        self,
        model: Any,
        clip: Any,
        text: str,
        noun: str,
        seed: int,
        settings: dict[str, Any],
        count: int = PAIRS,
        steps: int = STEPS,
        cfg: float = GUIDANCE,
        sampler: str = "euler",
    ) -> Drawn:
        """Sample a batch of one prompt with two branches."""
        positive = self.conditioning.build_conditioning(clip, text, noun).conditioning
        given = {name: value for name, value in settings.items() if name != "stable"}
        patched, _ = self.sampling.apply_dci(model, self.settings.DCISettings(**given))
        self.seen.clear()
        self.run.STABLE = settings.get("stable", False)
        latents = self._sample(patched, positive, self.encode(clip, [""]), count, seed, steps, cfg, sampler)
        run = self.seen[-1]
        report = run.report()
        return Drawn(latents, list(report.deviations), list(run.correlations), report.mean_weight)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        return torch.cat([self.vae.decode(part).cpu() for part in latents.split(16)]).clamp(0, 1)

    def _sample(
        self, model: Any, positive: Any, negative: Any, count: int, seed: int, steps: int, cfg: float, sampler: str
    ) -> Tensor:
        edge = self.world.size_px // 8
        latent = {"samples": torch.zeros(count, 4, edge, edge)}
        (drawn,) = self.nodes.common_ksampler(model, seed, steps, cfg, sampler, "normal", positive, negative, latent)
        return drawn["samples"].cpu()  # type: ignore[no-any-return]

    def _run_folder(self, subject: Subject, recipe: Recipe) -> Path:
        return self.folder / "trainings" / f"{subject.name}, {recipe.name}, {recipe.steps} steps"

    def _watch(self) -> None:
        """Keep each run's object, correlate both latents at its active calls, and offer the "stable factor" candidate."""
        seen, host_run = self.seen, self.run

        class Watched(host_run.Run):  # type: ignore[misc, name-defined]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.correlations: list[float] = []
                seen.append(self)

            def predict(self, executor: Any, x: Tensor, *rest: Any) -> Tensor:
                before = self.active_calls
                output = super().predict(executor, x, *rest)
                if self.active_calls > before:
                    pair = torch.stack([self.model_input.flatten().float(), x.flatten().float()])
                    self.correlations.append(float(torch.corrcoef(pair)[0, 1]))
                return output

            def _move_to(self, sigma: float, *rest: Any) -> None:
                if getattr(host_run, "STABLE", False) and sigma != self.sigma and self.shared.were_used:
                    scale, ratio = self.guider.cfg, sigma / self.sigma
                    stable = (1.0 - ratio**scale) / (1.0 - ratio)  # contracts by r^s, as infinitely many short steps do
                    unconditional = (scale * self.conditional - self.denoised) / (scale - 1.0)
                    self.denoised = unconditional + stable * (self.conditional - unconditional)
                super()._move_to(sigma, *rest)

        self.sampling.Run = Watched
