"""Overfitted LoRAs of held-out subjects, trained by the host's own node Train LoRA: no trainer of ours, no V*."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import comfy.utils
import torch
from comfyui_dci.dci_core.files import write_atomically
from safetensors.torch import save_file
from torch import Tensor

from demo_world.vocabulary import SUBJECTS
from study.cells import MODEL, digest, file_digest
from study.class_images import class_images
from study.plan import ALL, CHOICE, REPORTED
from study.studio import Studio, encode, references

WORD = "sks"  # one token, which the demo model was never trained with
INSTANCE, DREAMBOOTH = "instance only", "DreamBooth"
STUDIED = REPORTED[:4]
CHOSEN_ON = CHOICE[0]  # the subject to choose rates and steps on; of no reported figure
TRAINING_SEED = 1


@dataclass(frozen=True)
class Lora:
    """A LoRA as people train them.

    Args:
        kind: INSTANCE, the reference images with one caption; DREAMBOOTH, as many class images beside them, each with its own.
        rank: of all layers.
        learning_rate: of AdamW, the node's own.
        steps: of the optimizer.
        pictures: of a step, one after the other; in a batch the host's node would average over their captions.
    """

    kind: str
    rank: int
    learning_rate: float
    steps: int
    pictures: int

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.kind}, rank {self.rank}"


# Rates and steps chosen on the first demo model (128 px).
LORAS = (
    *(Lora(INSTANCE, rank, learning_rate=3e-3, steps=300, pictures=4) for rank in (4, 16)),
    *(Lora(DREAMBOOTH, rank, learning_rate=3e-3, steps=250, pictures=4) for rank in (4, 16)),
)


def phrase_of(subject: str) -> str:
    """The words that name a subject, a key of SUBJECTS, e.g. "sks bear"."""
    return f"{WORD} {SUBJECTS[subject]}"


def training_pictures(subject: str, kind: str) -> tuple[list[Tensor], list[str]]:
    """What a LoRA is trained on: pictures, each [256, 256, 3] in 0 … 1, and a caption each."""
    images = list(references(subject, ALL))
    captions = [f"photo of a {phrase_of(subject)}"] * len(images)
    if kind == INSTANCE:
        return images, captions
    others, told = class_images(SUBJECTS[subject], len(images))
    return [*images, *others], [*captions, *told]


def training_digest(subject: str, lora: Lora) -> str:
    """Digest of everything that shapes a LoRA: the shipped model, the references, how it is trained."""
    files = file_digest(MODEL), file_digest(f"subjects/{subject}")
    return digest([*files, asdict(lora), WORD, TRAINING_SEED])


def lora_file(studio: Studio, subject: str, lora: Lora) -> Path:
    """Return the file of a LoRA, training it first if it is not there."""
    made_from = training_digest(subject, lora)
    path = studio.folder / "loras" / f"{subject}, {lora.name}, {made_from}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        trained = train(studio, subject, lora)
        write_atomically(path, lambda temporary: save_file(trained, temporary))
    return path


@torch.inference_mode()
def train(studio: Studio, subject: str, lora: Lora) -> dict[str, Tensor]:
    """Train with the host's node as its server does; on one machine the same arguments give the same bytes."""
    from comfy_extras.nodes_train import TrainLoraNode

    images, captions = training_pictures(subject, lora.kind)
    schema = TrainLoraNode.define_schema()
    inputs: dict[str, list[Any]] = {
        given.id: [given.default] for given in schema.inputs if getattr(given, "default", None) is not None
    }
    inputs |= {
        "model": [studio.base.model],
        "latents": [{"samples": studio.base.vae.encode(torch.stack(images))}],
        "positive": [[encode(studio.base.clip, caption)[0] for caption in captions]],
        "steps": [lora.steps],
        "grad_accumulation_steps": [lora.pictures],
        "learning_rate": [lora.learning_rate],
        "rank": [lora.rank],
        "seed": [TRAINING_SEED],
        "training_dtype": ["fp32"],  # a processor computes faster so
        "lora_dtype": ["fp32"],
        "gradient_checkpointing": [False],
    }
    with torch.random.fork_rng():
        torch.manual_seed(TRAINING_SEED)  # the node draws pictures and noise levels by the global generator
        trained = TrainLoraNode.execute(**inputs).result[0]
    return {name: value.clone().contiguous() for name, value in trained.items()}


def load_lora(path: Path) -> dict[str, Tensor]:
    """Read a LoRA file as the host's LoraLoader does."""
    weights: dict[str, Tensor] = comfy.utils.load_torch_file(str(path), safe_load=True)
    return weights
