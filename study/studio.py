"""Fine-tune and sample the demo model in this process, through the pack's own functions and the host's samplers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.utils
import nodes
import torch
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.dci_core.training.settings import TrainingMode, TrainingSettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.demo_model import find_subject, load_demo_model, subject_images
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.sampling.conditioning import build_conditioning
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.host.training.inputs import TrainingInputs
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from torch import Tensor

from demo_world.concepts import Concept
from demo_world.contexts import SIZE_PX
from study.cells import training_digest
from study.class_images import class_images
from study.plan import (
    BATCH,
    CONTEXT_RATE_FACTOR,
    PICTURES,
    PLACEHOLDER,
    TRAINING_SEED,
    USUAL_NOUN,
    Method,
    Prompt,
    Sampling,
    auxiliary_noun_for,
    checkpoints_of,
)

STEPS = 20
CFG = 5.0


class Studio:
    """The demo model, loaded once.

    Args:
        folder: where fine-tuned concepts are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        comfy.utils.PROGRESS_BAR_ENABLED = False  # thousands of them
        with torch.inference_mode():
            self.base = HostModel(*load_demo_model())

    def fine_tune(self, concept: Concept, method: Method, steps: int) -> Path:
        """Return the concept file of a checkpoint, training the whole run first if it is not there."""
        run = self.folder / f"{concept.name}, {method.name}, {training_digest()}"
        pattern = f"*/step_{steps:06d}.safetensors"
        if not list(run.glob(pattern)):
            self._train(concept, method, run)
        return next(run.glob(pattern))

    def _train(self, concept: Concept, method: Method, run: Path) -> None:
        subject = find_subject(concept.name)
        settings = TrainingSettings(
            scheme=ICOScheme(*method.scheme),
            mode=TrainingMode(method.mode),
            steps=max(checkpoints_of(method)),
            batch_size=BATCH,
            learning_rate=method.learning_rate,
            context_learning_rate=CONTEXT_RATE_FACTOR * method.learning_rate,
            seed=TRAINING_SEED,
        )
        others, captions = class_images(subject.class_noun) if method.regularized else ([], [])
        with torch.inference_mode():
            inputs = TrainingInputs(
                images=list(subject_images(subject)),
                class_noun=subject.class_noun,
                regularization_images=others,
                regularization_captions=captions,
                resolution=SIZE_PX,
                placeholder=PLACEHOLDER,
            )
            train_concept(self.base, inputs, settings, Storage(run, CheckpointPlan(steps=checkpoints_of(method))))

    @torch.inference_mode()
    def draw(self, concept_file: Path, concept: Concept, prompt: Prompt, how: Sampling, seed: int) -> Tensor:
        """Sample the study's pictures of a prompt, [PICTURES, H, W, 3] in 0 … 1; noise is the same for every setting."""
        model, clip = apply_concept(self.base.model, self.base.clip, load_concept(concept_file), how.strength)
        positive = self._positive(clip, concept, prompt, how)
        if how.dci is not None:
            settings: dict[str, Any] = {"auxiliary_steps": "single", **how.dci}  # as all cells so far were sampled
            model, _ = apply_dci(model, DCISettings(**settings))
        return self.sample(model, positive, encode(clip, ""), seed, PICTURES)

    def sample(self, model: Any, positive: Any, negative: Any, seed: int, count: int) -> Tensor:
        """Sample pictures of one conditioning, [count, H, W, 3] in 0 … 1."""
        latent = {"samples": torch.zeros(count, *self.base.family.latent_shape(SIZE_PX))}
        (drawn,) = nodes.common_ksampler(model, seed, STEPS, CFG, "euler", "normal", positive, negative, latent)
        pictures: Tensor = self.base.vae.decode(drawn["samples"])
        return pictures

    def _positive(self, clip: Any, concept: Concept, prompt: Prompt, how: Sampling) -> list[Any]:
        noun = how.auxiliary_noun
        if noun == USUAL_NOUN or (noun is None and how.dci is not None):
            noun = auxiliary_noun_for(concept, prompt)
        if how.dci is not None:
            assert noun is not None
            return build_conditioning(clip, prompt.text, noun, how.entire_prompt).conditioning
        concept_text = encode(clip, prompt.text)
        if not how.noun_until:
            return concept_text
        said_first = prompt.plain_text if noun is None else prompt.text.replace(f"{PLACEHOLDER} {concept.noun}", noun)
        noun_text = encode(clip, said_first)
        limit = nodes.ConditioningSetTimestepRange()
        return (
            limit.set_range(noun_text, 0.0, how.noun_until)[0] + limit.set_range(concept_text, how.noun_until, 1.0)[0]
        )


def encode(clip: Any, text: str) -> list[Any]:
    """Return the conditioning of a text, as the host's node makes it."""
    return nodes.CLIPTextEncode().encode(clip, text)[0]
