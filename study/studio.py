"""Fine-tune and sample the demo model in this process, through the pack's own functions and the host's samplers."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import nodes
import torch
from comfy.ldm.modules.attention import attention_pytorch
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

from demo_world.placement import PICTURE_PX
from demo_world.precision import fast_matrices
from demo_world.subjects import REFERENCE_CONTEXTS
from demo_world.vocabulary import SUBJECTS
from study.batches import Conditioning, batches
from study.cells import training_digest
from study.class_images import class_images
from study.plan import BATCH, CLASS_NOUN, CONTEXT_RATE_FACTOR, STUDIO, Method, Sampling
from study.prompts import PLACEHOLDER, Prompt, auxiliary_noun_for

STEPS = 20
CFG = 5.0
PICTURES_A_CALL = 4  # larger batches gain nothing on a processor


class Studio:
    """The demo model, loaded once.

    Args:
        folder: where fine-tuned concepts are kept.
        batch: most pictures of a sampler call.
    """

    def __init__(self, folder: Path, batch: int = PICTURES_A_CALL) -> None:
        self.folder = folder
        self.batch = batch
        comfy.utils.PROGRESS_BAR_ENABLED = False  # thousands of them
        with torch.inference_mode():
            model, clip, vae = load_demo_model()
        self.base = HostModel(_with_fast_attention(model), clip, vae)

    def fine_tune(self, subject: str, method: Method, steps: int, seed: int) -> Path:
        """Return the concept file of a checkpoint, training the whole run first if it is not there.

        Args:
            subject: a key of SUBJECTS.
            method: of fine-tuning.
            steps: one of its checkpoints.
            seed: of the training.
        """
        run = self.folder / f"{subject}, {method.name}, {seed}, {training_digest(subject, method, seed)}"
        pattern = f"*/step_{steps:06d}.safetensors"
        if not list(run.glob(pattern)):
            self._train(subject, method, seed, run)
        return next(run.glob(pattern))

    def _train(self, subject: str, method: Method, seed: int, run: Path) -> None:
        settings = TrainingSettings(
            scheme=ICOScheme(*method.scheme),
            mode=TrainingMode(method.mode),
            steps=method.steps,
            batch_size=BATCH,
            learning_rate=method.learning_rate,
            context_learning_rate=CONTEXT_RATE_FACTOR * method.learning_rate,
            ema_decay=method.ema_decay,
            seed=seed,
        )
        noun = SUBJECTS[subject]
        others, captions = class_images(noun, method.class_images) if method.class_images else ([], [])
        with torch.inference_mode():
            inputs = TrainingInputs(
                images=list(references(subject, method.references)),
                class_noun=noun,
                regularization_images=others,
                regularization_captions=captions,
                resolution=PICTURE_PX,
                placeholder=PLACEHOLDER,
            )
            train_concept(self.base, inputs, settings, Storage(run, CheckpointPlan(steps=method.checkpoints)))

    @torch.inference_mode()
    def draw(self, concept_file: Path, prompts: Sequence[Prompt], how: Sampling, noises: int, seed: int) -> Tensor:
        """Sample pictures of several prompts; the noises are the same for every way.

        Args:
            concept_file: of a fine-tuning.
            prompts: of its subject, P of them.
            how: the way.
            noises: pictures of each prompt.
            seed: of the noises; every prompt and picture has its own.

        Returns:
            [P · noises, H, W, 3] in 0 … 1, prompt by prompt.
        """
        model, clip = apply_concept(self.base.model, self.base.clip, load_concept(concept_file), how.strength)
        positives = [positive_of(clip, prompt, how) for prompt in prompts]
        if how.dci is not None:
            settings: dict[str, Any] = dict(how.dci)
            model, _ = apply_dci(model, DCISettings(**settings), kept_runs=0)
        negative = encode(clip, "")
        drawn: dict[int, Tensor] = {}
        for rows, positive in batches(positives, noises, self.batch):
            pictures = self.sample(model, positive, negative, seed, rows)
            drawn |= dict(zip(rows, pictures, strict=True))
        return torch.stack([drawn[row] for row in sorted(drawn)])

    def sample(
        self, model: Any, positive: Conditioning, negative: Conditioning, seed: int, rows: Sequence[int]
    ) -> Tensor:
        """Sample pictures, [len(rows), H, W, 3] in 0 … 1, on the CPU.

        Processors that can multiply in bfloat16 do so: pictures then differ by one of 255 in the mean.

        Args:
            model: the host's.
            positive: with one row for all pictures, or a row for each.
            negative: with one row.
            seed: of the noises.
            rows: which of that seed's noises, so that a picture is the same in every batch.
        """
        samples = torch.zeros(len(rows), *self.base.family.latent_shape(PICTURE_PX))
        latent = {"samples": samples, "batch_index": list(rows)}
        on_processor = comfy.model_management.get_torch_device().type == "cpu"
        with fast_matrices() if on_processor else nullcontext():
            (drawn,) = nodes.common_ksampler(model, seed, STEPS, CFG, "euler", "normal", positive, negative, latent)
            pictures: Tensor = self.base.vae.decode(drawn["samples"])
        return pictures.cpu().float().clamp(0, 1)


def _with_fast_attention(model: Any) -> Any:
    """Return a clone of a MODEL with the attention that the host takes on a GPU; on a processor its own choice is far slower."""
    clone = model.clone()
    options = clone.model_options.setdefault("transformer_options", {})
    options["optimized_attention_override"] = lambda _chosen, *args, **kwargs: attention_pytorch(*args, **kwargs)
    return clone


def references(subject: str, which: str) -> Tensor:
    """Return the reference images of a subject that a method is shown, [R, H, W, 3] in 0 … 1.

    Args:
        subject: a key of SUBJECTS.
        which: ALL, or STUDIO for those before a plain backdrop.
    """
    images = subject_images(find_subject(subject))
    if which != STUDIO:
        return images
    return images[[place for place, context in enumerate(REFERENCE_CONTEXTS) if not context]]


def noise_seed(subject: str, seed: int) -> int:
    """Return the seed of the noises of a subject and training: others for each, the same for all its settings."""
    return zlib.crc32(f"{subject} {seed}".encode())


def encode(clip: Any, text: str) -> Conditioning:
    """Return the conditioning of a text, as the host's node makes it."""
    conditioning: Conditioning = nodes.CLIPTextEncode().encode(clip, text)[0]
    return conditioning


def positive_of(clip: Any, prompt: Prompt, how: Sampling) -> Conditioning:
    """Return the positive conditioning of a prompt in a way of sampling.

    Args:
        clip: that knows the concept.
        prompt: of its subject.
        how: the way.
    """
    if how.dci is not None:
        noun = auxiliary_noun_for(prompt, how.auxiliary)
        return build_conditioning(clip, prompt.text, noun, how.entire_prompt).conditioning
    if not how.said_until:
        return encode(clip, prompt.text)
    is_class_noun = how.said_first == CLASS_NOUN
    first = prompt.plain_text if is_class_noun else prompt.said_of(auxiliary_noun_for(prompt, how.auxiliary))
    if how.said_until == 1:
        return encode(clip, first)
    limit = nodes.ConditioningSetTimestepRange()
    said_first, said_then = encode(clip, first), encode(clip, prompt.text)
    early: Conditioning = limit.set_range(said_first, 0.0, how.said_until)[0]
    late: Conditioning = limit.set_range(said_then, how.said_until, 1.0)[0]
    return early + late
