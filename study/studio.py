"""Fine-tune and sample the demo model in this process, through the pack's own functions and the host's samplers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demo_world.concepts import Concept
from study.cells import training_digest
from study.class_images import class_images
from study.pack import NAME, load_pack
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

SIZE_PX = 128
STEPS = 20
GUIDANCE = 5.0


class Studio:
    """The demo model, loaded once.

    Args:
        folder: where fine-tuned concepts are kept.
    """

    def __init__(self, folder: Path) -> None:
        load_pack()
        self.folder = folder
        self.demo = import_module(f"{NAME}.nodes.host.demo_model")
        self.applying = import_module(f"{NAME}.nodes.host.concepts.applying")
        self.conditioning = import_module(f"{NAME}.nodes.host.sampling.conditioning")
        self.sampling = import_module(f"{NAME}.nodes.host.sampling.patch")
        self.settings = import_module(f"{NAME}.dci_core.sampling.settings")
        self.concept = import_module(f"{NAME}.dci_core.concept.concept")
        self.concept_file = import_module(f"{NAME}.dci_core.concept.file")
        self.sweep = import_module(f"{NAME}.dci_core.pictures.sweep")
        self.training_settings = import_module(f"{NAME}.dci_core.training.settings")
        self.training_run = import_module(f"{NAME}.dci_core.training.run")
        self.ico = import_module(f"{NAME}.dci_core.training.ico")
        self.run_inputs = import_module(f"{NAME}.nodes.host.training.inputs")
        self.trainer = import_module(f"{NAME}.nodes.host.training.trainer")
        self.nodes = import_module("nodes")  # the host's
        import_module("comfy.utils").PROGRESS_BAR_ENABLED = False  # thousands of them
        with torch.inference_mode():
            self.model, self.clip, self.vae = self.demo.load_demo_model()

    def fine_tune(self, concept: Concept, method: Method, steps: int) -> Path:
        """Return the concept file of a checkpoint, training the whole run first if it is not there."""
        run = self.folder / f"{concept.name}, {method.name}, {training_digest()}"
        pattern = f"*/step_{steps:06d}.safetensors"
        if not list(run.glob(pattern)):
            self._train(concept, method, run)
        return next(run.glob(pattern))

    def _train(self, concept: Concept, method: Method, run: Path) -> None:
        subject = self.demo.find_subject(concept.name)
        settings = self.training_settings.TrainingSettings(
            scheme=self.ico.ICOScheme(*method.scheme),
            mode=method.mode,
            steps=max(checkpoints_of(method)),
            batch_size=BATCH,
            learning_rate=method.learning_rate,
            context_learning_rate=CONTEXT_RATE_FACTOR * method.learning_rate,
            seed=TRAINING_SEED,
        )
        others, captions = class_images(subject.class_noun) if method.regularized else ([], [])
        with torch.inference_mode():
            inputs = self.run_inputs.TrainingInputs(
                images=list(self.demo.subject_images(subject)),
                class_noun=subject.class_noun,
                regularization_images=others,
                regularization_captions=captions,
                resolution_px=SIZE_PX,
            )
            storage = self.trainer.Storage(run, self.training_run.CheckpointPlan(steps=checkpoints_of(method)))
            self.trainer.train_concept(
                self.model, self.clip, self.vae, inputs, settings, lambda step, loss: None, PLACEHOLDER, storage=storage
            )

    @torch.inference_mode()
    def draw(self, concept_file: Path, concept: Concept, prompt: Prompt, how: Sampling, seed: int) -> Tensor:
        """Sample the study's pictures of a prompt, [PICTURES, H, W, 3] in 0 … 1; noise is the same for every setting."""
        trained = self.concept_file.load_concept(concept_file)
        model, clip = self.applying.apply_concept(self.model, self.clip, trained, how.strength)
        positive = self._positive(clip, concept, prompt, how)
        negative = self._encode(clip, "")
        if how.dci is not None:
            settings = {"auxiliary_steps": "single", **how.dci}  # as all cells so far were sampled
            model, _ = self.sampling.apply_dci(model, self.settings.DCISettings(**settings))
        latent = {"samples": torch.zeros(PICTURES, 4, SIZE_PX // 8, SIZE_PX // 8)}
        (drawn,) = self.nodes.common_ksampler(
            model, seed, STEPS, GUIDANCE, "euler", "normal", positive, negative, latent
        )
        pictures: Tensor = self.vae.decode(drawn["samples"])
        return pictures

    def _positive(self, clip: Any, concept: Concept, prompt: Prompt, how: Sampling) -> list[Any]:
        noun = how.auxiliary_noun
        if noun == USUAL_NOUN or (noun is None and how.dci is not None):
            noun = auxiliary_noun_for(concept, prompt)
        if how.dci is not None:
            return self.conditioning.build_conditioning(clip, prompt.text, noun, how.entire_prompt).conditioning
        concept_text = self._encode(clip, prompt.text)
        if not how.noun_until:
            return concept_text
        said_first = prompt.plain_text if noun is None else prompt.text.replace(f"{PLACEHOLDER} {concept.noun}", noun)
        noun_text = self._encode(clip, said_first)
        limit = self.nodes.ConditioningSetTimestepRange()
        return (
            limit.set_range(noun_text, 0.0, how.noun_until)[0] + limit.set_range(concept_text, how.noun_until, 1.0)[0]
        )

    def _encode(self, clip: Any, text: str) -> list[Any]:
        return self.nodes.CLIPTextEncode().encode(clip, text)[0]
