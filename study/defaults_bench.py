"""Train and sample small worlds' models for measurements of defaults, through the pack's own functions and the host's samplers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.utils
import nodes
import torch
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.files import write_atomically
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.dci_core.training.presets import PresetName, run_values
from comfyui_dci.dci_core.training.report import relative_change
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.dci_core.training.settings import TrainingSettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.demo_model import Subject
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.sampling.conditioning import build_conditioning
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.host.training.inputs import TrainingInputs
from comfyui_dci.nodes.host.training.model_scale import scale_of
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from comfyui_dci.nodes.host.weights import key_value_weights
from torch import Tensor

from study.prompts import PLACEHOLDER
from study.watching import watching
from study.worlds import World

STEPS, CFG = 20, 7.0
PICTURES = 4  # of each prompt, plainly sampled
PAIRS = 2  # with two branches


@dataclass(frozen=True)
class Recipe:
    """How a subject is trained. Rates are multiples of the preset's (the authors', scaled to the model).

    Args:
        key_values, tokens, contexts: of the rates of K and V, [T] and [I].
        class_images: how many, drawn by the base model.
        batch: reference images a step; as many class images are added.
        steps: optimizer steps.
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


@dataclass(frozen=True)
class Way:
    """How pictures are sampled, by the names of the tables.

    Args:
        steps: denoising steps.
        cfg: scale of guidance.
        sampler: the host's name for it.
    """

    steps: int = STEPS
    cfg: float = CFG
    sampler: str = "euler"


DUAL, PLAIN = Way(), Way(cfg=5.0)
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
        self.world, self.folder = world, folder / world.name
        comfy.utils.PROGRESS_BAR_ENABLED = False
        self.base = HostModel(*world.load())

    def rates(self, recipe: Recipe) -> tuple[float, float, float]:
        """Final rates of K and V, [T] and [I]: the authors' on SD1.x, scaled to this model's weights and embeddings."""
        values = run_values(PresetName.WITH_DCI, scale_of(self.base))
        assert values.token_learning_rate is not None  # the preset has one
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
        settings = TrainingSettings(
            scheme=ICOScheme(1, 1, 3),
            steps=recipe.steps,
            batch_size=recipe.batch,
            learning_rate=key_values,
            token_learning_rate=tokens,
            context_learning_rate=contexts,
            seed=1,
            evaluate_every=min(checkpoints),
        )
        others, captions = (
            self.class_images(subject.class_noun, recipe.class_images) if recipe.class_images else ([], [])
        )
        with torch.inference_mode():
            inputs = TrainingInputs(
                images=self.world.references(subject),
                class_noun=subject.class_noun,
                regularization_images=others,
                regularization_captions=captions,
                resolution=self.world.resolution,
                placeholder=PLACEHOLDER,
            )
            storage = Storage(self._run_folder(subject, recipe), CheckpointPlan(steps=tuple(checkpoints)))
            train_concept(self.base, inputs, settings, storage)

    def class_images(self, noun: str, count: int) -> tuple[list[Tensor], list[str]]:
        """Pictures that the base model draws of a noun, in many scenes; drawn once and kept."""
        captions = self.world.class_captions(noun)
        captions = [captions[number % len(captions)] for number in range(400)]
        drawn = 100 if count <= 100 else 400
        path = self.folder / "class_images" / f"{noun}_{drawn}.pt"
        if not path.exists():
            pictures = []
            for start in range(0, drawn, 20):
                latents = self.plain(self.base.model, self.base.clip, captions[start : start + 20], 70000 + start)
                pictures.append((self.decode(latents) * 255).round().byte())
            write_atomically(path, lambda temporary: torch.save(torch.cat(pictures), temporary))
        images = torch.load(path, weights_only=True)[:count].float() / 255
        return list(images), captions[:count]

    def applied(self, path: Path, add_class_noun: bool = True) -> tuple[Any, Any]:
        """The model and the CLIP with a concept; the latter reads V* alone as written when told to."""
        with torch.inference_mode():
            return apply_concept(self.base.model, self.base.clip, load_concept(path), 1.0, add_class_noun)

    def change(self, path: Path) -> float | None:
        """How far K and V have moved, relative to their norm."""
        deltas = load_concept(path).deltas
        weights = key_value_weights(self.base.model)
        return relative_change(deltas, {name: float(weights[name].float().norm()) for name in deltas})

    @torch.inference_mode()
    def encode(self, clip: Any, texts: Sequence[str]) -> list[Any]:
        """One conditioning with a row for each text."""
        found = [clip.encode_from_tokens(clip.tokenize(text), return_pooled=True) for text in texts]
        longest = max(cond.shape[1] for cond, _ in found)
        assert all(cond.shape[1] == longest for cond, _ in found)
        return [[torch.cat([cond for cond, _ in found]), {"pooled_output": torch.cat([pooled for _, pooled in found])}]]

    @torch.inference_mode()
    def plain(self, model: Any, clip: Any, texts: Sequence[str], seed: int, how: Way = PLAIN) -> Tensor:
        """Sample a latent of each text."""
        return self._sample(model, self.encode(clip, texts), self.encode(clip, [""]), len(texts), seed, how)

    @torch.inference_mode()
    def dual(
        self,
        model: Any,
        clip: Any,
        text: str,
        noun: str,
        seed: int,
        settings: dict[str, Any],
        how: Way = DUAL,
        count: int = PAIRS,
    ) -> Drawn:
        """Sample a batch of one prompt with two branches."""
        positive = build_conditioning(clip, text, noun).conditioning
        given = {name: value for name, value in settings.items() if name != "stable"}
        patched, _ = apply_dci(model, DCISettings(**given))
        with watching(settings.get("stable", False)) as watched:
            latents = self._sample(patched, positive, self.encode(clip, [""]), count, seed, how)
        report = watched.report
        return Drawn(latents, list(report.deviations), watched.correlations, report.mean_weight)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        return torch.cat([self.base.vae.decode(part).cpu() for part in latents.split(16)]).clamp(0, 1)

    def _sample(self, model: Any, positive: Any, negative: Any, count: int, seed: int, how: Way) -> Tensor:
        latent = {"samples": torch.zeros(count, *self.base.family.latent_shape(self.world.resolution))}
        (drawn,) = nodes.common_ksampler(
            model, seed, how.steps, how.cfg, how.sampler, "normal", positive, negative, latent
        )
        latents: Tensor = drawn["samples"].cpu()
        return latents

    def _run_folder(self, subject: Subject, recipe: Recipe) -> Path:
        return self.folder / "trainings" / f"{subject.name}, {recipe.name}, {recipe.steps} steps"
