"""Class images drawn by the base model, for regularization: each is drawn once and kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nodes as host_nodes
import torch

from ....dci_core.errors import UserInputError
from ....dci_core.files import check_room
from ....dci_core.fingerprint import run_key
from ....dci_core.images.folder import FolderImage, read_image, write_image
from ....dci_core.images.resolution import RESOLUTION, check_resolution
from ....dci_core.log import LOG
from ....dci_core.seeds import LARGEST_SEED, following_seed
from ....dci_core.setting import check_settings, setting
from ....dci_core.training.ico import template_prompt
from ..concepts.store import folder_name, places_of
from ..model import HostModel
from .autoencoder import decoded
from .description import model_facts
from .inputs import check_class_caption

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
    """Which class images are wanted; the class noun is checked already.

    Raises:
        UserInputError: a value is outside its range.
    """

    class_noun: str = field(metadata=setting("The same as in ICO Trainer."))
    prompts: Sequence[str] = field(
        default=(),
        metadata=setting(
            f"One per line, taken in turn; they become the captions. {CLASS_NOUN} stands for the class noun. Different "
            "scenes keep more of the model.",
            f'Empty: "photo of a {CLASS_NOUN}".',
        ),
    )
    count: int = field(
        default=DEFAULT_COUNT,
        metadata=setting(
            "How many; the node says how long they take. A larger count later keeps those that are there.",
            "100 are measured to do.",
            allowed=(1, MOST_CLASS_IMAGES),
        ),
    )
    seed: int = field(
        default=0,
        metadata=setting("Of the first picture; each following one has the next seed.", offered=(0, LARGEST_SEED)),
    )
    steps: int = field(default=25, metadata=setting(f"Of the sampler ({SAMPLER}, {SCHEDULER}).", allowed=(1, 1000)))
    cfg: float = field(default=7.0, metadata=setting("Scale of guidance.", "1 is none.", offered=(0, 100), step=0.1))
    negative_prompt: str = field(default="", metadata=setting("What the pictures should not show."))
    resolution: int = field(default=0, metadata=RESOLUTION)

    def __post_init__(self) -> None:
        check_settings(self)
        check_resolution(self.resolution)

    def prompt(self, number: int) -> str:
        """Return the prompt of an image, counted from 0."""
        prompts = self.prompts or (template_prompt(CLASS_NOUN),)
        return prompts[number % len(prompts)].replace(CLASS_NOUN, self.class_noun)

    def seed_of(self, number: int) -> int:
        """Return the seed of an image, counted from 0."""
        return following_seed(self.seed, number)


def prompts_of(text: str) -> tuple[str, ...]:
    """Return the prompts of a text, one per line that says something."""
    return tuple(" ".join(line.split()) for line in text.splitlines() if line.strip())


def class_images(
    base: HostModel, plan: ClassImagePlan, root: Path, on_image: Callable[[int, int], None]
) -> list[FolderImage]:
    """Return class images with their captions, drawing those that are not there yet.

    Each picture is kept by everything that shapes it, so more of them, or other prompts beside the old ones, draw only what
    is new; a damaged picture is drawn again, and what is drawn when the run is cancelled stays. What is returned is what
    the files hold. The model is not changed.

    Args:
        base: the base model, LoRAs on it included.
        plan: what is wanted.
        root: below it each model gets a folder, which Load Image Folder could read too.
        on_image: called after each image with the number of those that are ready and how many of them were drawn now; all
            that are found come before the first that is drawn.

    Raises:
        UserInputError: the model cannot be trained or a prompt is too long for a caption, so class images would be of no use;
            or the model or the VAE gives NaN, of which nothing is kept.
    """
    base.check_trainable()
    base.check_vae()
    for number in range(min(plan.count, len(plan.prompts) or 1)):
        check_class_caption(base, plan.prompt(number))
    resolution = base.family.resolution(plan.resolution)
    facts = [model_facts(base), plan.steps, plan.cfg, plan.negative_prompt, resolution]
    places = places_of(root, folder_name(plan.class_noun, run_key({"class images": facts})))
    folder = places[0]
    LOG.info("Class images are kept in %s.", folder)
    images: dict[int, FolderImage] = {}
    for number in range(plan.count):
        name, prompt = _file_name(plan, number), plan.prompt(number)
        image = next((kept for place in places if (kept := _kept(place / name, prompt)) is not None), None)
        if image is not None:
            images[number] = image
            on_image(len(images), 0)
    shape = base.family.latent_shape(resolution)
    missing = [number for number in range(plan.count) if number not in images]
    if missing:
        check_room(folder, len(missing) * 3 * resolution**2, "Class images")
    encoded = functools.cache(functools.partial(_encoded, base.clip))
    for drawn, number in enumerate(missing, 1):
        prompt, file = plan.prompt(number), folder / _file_name(plan, number)
        latent = {"samples": torch.zeros(1, *shape)}
        (sampled,) = host_nodes.common_ksampler(
            base.model,
            plan.seed_of(number),
            plan.steps,
            plan.cfg,
            SAMPLER,
            SCHEDULER,
            encoded(prompt),
            encoded(plan.negative_prompt),
            latent,
        )
        write_image(decoded(base.vae, sampled["samples"], f"Class image {number + 1} ({prompt!r})"), prompt, file)
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
    if not image.image.any():
        LOG.warning("%s is black everywhere. It is drawn again.", file.name)
        return None
    return image if image.caption == prompt else None


def _encoded(clip: Any, text: str) -> Any:
    return host_nodes.CLIPTextEncode().encode(clip, text)[0]
