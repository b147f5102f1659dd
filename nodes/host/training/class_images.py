"""Class images drawn by the base model, for regularization: each is drawn once and kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodes as host_nodes
import torch

from ....dci_core.errors import UserInputError
from ....dci_core.fingerprint import run_key
from ....dci_core.images.folder import FolderImage, read_image, write_image
from ....dci_core.log import LOG
from ....dci_core.seeds import following_seed
from .description import model_facts
from .inputs import check_class_caption, check_trainable, check_vae
from .trainer import folder_name

SAMPLER, SCHEDULER = "euler", "normal"
MOST_CLASS_IMAGES = 1000
DEFAULT_COUNT = 100
CLASS_NOUN = "<class noun>"  # in a prompt: stands for the class noun
DEFAULT_PROMPTS = (
    "photo of a <class noun>",
    "close-up photo of a <class noun>",
    "a <class noun> on grass",
    "a <class noun> in the snow",
    "a <class noun> on a beach",
    "a <class noun> in a forest",
    "a <class noun> on a city street",
    "a <class noun> on a wooden table",
    "a <class noun> in a living room",
    "a <class noun> at night",
    "a drawing of a <class noun>",
    "a painting of a <class noun>",
)


@dataclass(frozen=True)
class ClassImagePlan:
    """Which class images are wanted.

    Args:
        class_noun: the plain word for what the subject is, checked.
        prompts: taken in turn, ``CLASS_NOUN`` standing for the noun; empty is "photo of a <noun>". They become the captions.
        count: 1 … 1000.
        seed: of the first image's noise; each following image has the next one.
        steps: of the sampler, 1 … 1000.
        guidance: scale of classifier-free guidance; 1 is none.
        negative: the negative prompt.
        size_px: edge, a multiple of 8; 0 is the family's native size.

    Raises:
        UserInputError: a value is outside its range.
    """

    class_noun: str
    prompts: Sequence[str] = ()
    count: int = DEFAULT_COUNT
    seed: int = 0
    steps: int = 25
    guidance: float = 7.0
    negative: str = ""
    size_px: int = 0

    def __post_init__(self) -> None:
        for name, most in (("count", MOST_CLASS_IMAGES), ("steps", 1000)):
            if not 1 <= getattr(self, name) <= most:
                raise UserInputError(f"{name} must be between 1 and {most}, but got {getattr(self, name)}.")
        if self.size_px % 8 or not (self.size_px == 0 or 64 <= self.size_px <= 2048):
            raise UserInputError(
                f"resolution must be 0 or a multiple of 8 between 64 and 2048, but got {self.size_px}. 0 is the model's own."
            )

    def prompt(self, number: int) -> str:
        """Return the prompt of an image, counted from 0."""
        prompts = self.prompts or (f"photo of a {CLASS_NOUN}",)
        return prompts[number % len(prompts)].replace(CLASS_NOUN, self.class_noun)

    def seed_of(self, number: int) -> int:
        """Return the seed of an image, counted from 0."""
        return following_seed(self.seed, number)


def prompts_of(text: str) -> tuple[str, ...]:
    """Return the prompts of a text, one per line that says something."""
    return tuple(" ".join(line.split()) for line in text.splitlines() if line.strip())


def class_images(
    model: Any, clip: Any, vae: Any, plan: ClassImagePlan, root: Path, on_image: Callable[[int, int], None]
) -> list[FolderImage]:
    """Return class images with their captions, drawing those that are not there yet.

    Each picture is kept by everything that shapes it, so more of them, or other prompts beside the old ones, draw only what
    is new; a damaged picture is drawn again, and what is drawn when the run is cancelled stays. What is returned is what
    the files hold. Model, CLIP and VAE are not changed.

    Args:
        model, clip, vae: the base model's, LoRAs on it included.
        plan: what is wanted.
        root: below it each model gets a folder, which Load Image Folder could read too.
        on_image: called after each image with the number of those that are ready and how many of them were drawn now; all
            that are found come before the first that is drawn.

    Raises:
        UserInputError: the model cannot be trained or a prompt is too long for a caption, so class images would be of no use.
    """
    family = check_trainable(model, clip)
    check_vae(vae)
    for number in range(min(plan.count, len(plan.prompts) or 1)):
        check_class_caption(clip, plan.prompt(number))
    size_px = plan.size_px or family.native_size_px
    facts = [model_facts(model, clip, vae), plan.steps, plan.guidance, plan.negative, size_px]
    folder = root / folder_name(plan.class_noun, run_key({"class images": facts}))
    LOG.info("Class images are kept in %s.", folder)
    images: dict[int, FolderImage] = {}
    for number in range(plan.count):
        image = _kept(folder / _file_name(plan, number), plan.prompt(number))
        if image is not None:
            images[number] = image
            on_image(len(images), 0)
    missing = [number for number in range(plan.count) if number not in images]
    encoded = functools.cache(functools.partial(_encoded, clip))
    for drawn, number in enumerate(missing, 1):
        prompt, file = plan.prompt(number), folder / _file_name(plan, number)
        latent = {"samples": torch.zeros(1, 4, size_px // 8, size_px // 8)}
        (sampled,) = host_nodes.common_ksampler(
            model,
            plan.seed_of(number),
            plan.steps,
            plan.guidance,
            SAMPLER,
            SCHEDULER,
            encoded(prompt),
            encoded(plan.negative),
            latent,
        )
        write_image(vae.decode(sampled["samples"])[0], prompt, file)
        images[number] = read_image(file)
        on_image(len(images), drawn)
    return [images[number] for number in range(plan.count)]


def _file_name(plan: ClassImagePlan, number: int) -> str:
    return f"{plan.seed_of(number):020d}-{run_key({'prompt': plan.prompt(number)})[:12]}.png"


def _kept(file: Path, prompt: str) -> FolderImage | None:
    if not file.is_file():
        return None
    try:
        image = read_image(file)
    except UserInputError as error:
        LOG.warning("%s It is drawn again.", error)
        return None
    return image if image.caption == prompt else None


def _encoded(clip: Any, text: str) -> Any:
    return host_nodes.CLIPTextEncode().encode(clip, text)[0]
