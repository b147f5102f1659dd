"""What the user gives a training run, and everything that can be wrong with it, found before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.images.caption_file import without_marks
from ....dci_core.images.crop import BUCKET_STEP_PX, bucket_of, has_alpha, is_one_colour, on_white
from ....dci_core.images.mask_coverage import mask_remarks
from ....dci_core.images.resolution import RESOLUTION, check_resolution
from ....dci_core.prompt.words import check_caption
from ....dci_core.setting import setting
from ....dci_core.training.ico import PromptWords, end_position, template_prompt
from ....dci_core.training.optimization import check_optimizer
from ....dci_core.training.settings import TrainingSettings
from ..model import HostModel
from ..tokenizer import noun_ids, real_tokens

MOST_IMAGES = 200


class Crop(str, Enum):
    """How images are brought to a size: their centre square, or buckets of several proportions."""

    CENTER = "center"
    BUCKETS = "buckets"


@dataclass(frozen=True)
class TrainingInputs:
    """What the user gives a training run; what is wrong with it by itself is found when it is made.

    What each field is for is told in its metadata; here is what they hold.

    Args:
        images, regularization_images: each [height, width, 3], values 0 … 1; with alpha as fourth channel they are laid on
            white.
        class_noun, placeholder: checked.
        regularization_captions: one per class image.
        masks: each [height, width] as its image, values 0 … 1; empty is everywhere.
        captions: words that are added, as they stand, to the prompt of each image; "" adds nothing, empty is none.

    Raises:
        UserInputError: a value, or the number of images, masks or captions, cannot be used.
    """

    images: Sequence[Tensor] = field(
        metadata=setting(
            "Reference images, 4 to 8 are usual: a batch, or a list of any sizes. Their centre square is used."
        )
    )
    class_noun: str = field(
        metadata=setting('The plain word for what your subject is, such as "cat" or "tortoise plushy".')
    )
    regularization_images: Sequence[Tensor] = field(
        default=(),
        metadata=setting(
            "Other pictures of the class, so that the model does not forget it: DCI's auxiliary noun needs a model that "
            "still knows its class. DCI Class Images draws them."
        ),
    )
    regularization_captions: Sequence[str] = field(
        default=(),
        metadata=setting(
            "A caption per regularization image, one per line, or one for all.",
            'Empty, and an empty line: "photo of a <class noun>".',
        ),
    )
    resolution: int = field(default=0, metadata=RESOLUTION)
    masks: Sequence[Tensor] = field(
        default=(),
        metadata=setting(
            "A mask per reference image, white where it counts: the rest is not learned. Invert the mask of Load Image; "
            "that of Load Image Folder fits as it is."
        ),
    )
    crop: Crop = field(
        default=Crop.CENTER,
        metadata=setting(
            "center: centre squares. buckets: whole images, in the nearest of several proportions with the same area."
        ),
    )
    captions: Sequence[str] = field(
        default=(),
        metadata=setting(
            'What is around the subject in each reference image, such as "on a wooden table", so that it is not learned '
            "as part of it: one per line (an empty line is none), or one for all. Without V* and noun.",
            "Empty: none.",
        ),
    )
    placeholder: str = field(
        default="V*",
        metadata=setting(
            "How prompts will call the subject. Changing it trains anew; Apply Concept can rename instead."
        ),
    )
    keep_contexts: bool = field(
        default=False,
        metadata=setting("Keep the image-specific vectors in the concept, for inspection. Changing it trains anew."),
    )

    def __post_init__(self) -> None:
        for caption in self.captions:
            check_caption(caption, self.placeholder, self.class_noun)
        self._check_images()
        check_resolution(self.resolution)
        if self.crop is Crop.BUCKETS and self.resolution % BUCKET_STEP_PX:
            raise UserInputError(
                f"With buckets the resolution must be a multiple of {BUCKET_STEP_PX}, but got {self.resolution}."
            )
        self._check_masks()
        if len(self.captions) not in (0, len(self.images)):
            raise UserInputError(
                f"There are {len(self.images)} reference images and {len(self.captions)} captions. Write one caption per "
                "image, one per line, a single caption for all, or none."
            )

    def size_of(self, image: Tensor, resolution: int) -> tuple[int, int]:
        """Return height and width in pixels that an image is brought to, where the square has edges of ``resolution``."""
        if self.crop is Crop.CENTER or image.ndim != 3:
            return resolution, resolution
        return bucket_of(image.shape[0], image.shape[1], resolution)

    def remarks(self, resolution: int) -> list[str]:
        """Return what is to be said of the images before the run: what masks leave, and what becomes of transparency.

        Args:
            resolution: edge of the square in pixels.
        """
        remarks = mask_remarks(self.masks, [self.size_of(image, resolution) for image in self.images])
        images = (*self.images, *self.regularization_images)
        transparent = sum(has_alpha(image) and bool((image[..., 3] < 1.0).any()) for image in images)
        if transparent:
            remarks.append(
                f"Images laid on white where they are transparent: {transparent}. Only masks leave that part out."
            )
        return remarks

    def _check_images(self) -> None:
        if not 1 <= len(self.images) <= MOST_IMAGES:
            raise UserInputError(
                f"There are {len(self.images)} reference images; 1 to {MOST_IMAGES} can be used, 4 to 8 are usual."
            )
        for number, image in enumerate(self.images, 1):
            if image.ndim == 3 and is_one_colour(on_white(image)):
                raise UserInputError(
                    f"Reference image {number} is one even colour, so there is nothing to learn from it. Look at what is "
                    "connected, or leave it out."
                )
        images, captions = len(self.regularization_images), len(self.regularization_captions)
        if images != captions:
            raise UserInputError(
                f"There are {images} regularization images and {captions} captions. Write one caption per image, one per "
                "line, or a single caption for all."
            )

    def _check_masks(self) -> None:
        if self.masks and len(self.masks) != len(self.images):
            raise UserInputError(
                f"There are {len(self.images)} reference images and {len(self.masks)} masks. Give one mask per image, or none."
            )
        for number, (image, mask) in enumerate(zip(self.images, self.masks), 1):
            if not mask.any():
                raise UserInputError(
                    f"Mask {number} is black everywhere, so nothing of its image would be learned. White is what counts. "
                    "Load Image gives a black mask for a picture without transparency: leave masks out, or use Load Image "
                    "Folder."
                )
            if mask.shape != image.shape[:2]:
                raise UserInputError(
                    f"Mask {number} is {tuple(mask.shape)}, its image is {tuple(image.shape[:2])} (height, width). Make "
                    "them the same size."
                )


def check_run(base: HostModel, inputs: TrainingInputs, settings: TrainingSettings) -> None:
    """Find everything that can be wrong with a run without looking into images, at no cost.

    Raises:
        UserInputError: the model cannot be trained, noun or captions do not fit it, or the optimizer is not installed.
    """
    base.check_trainable()
    for name in base.family.text_encoders:
        ids = noun_ids(base.clip, name, inputs.class_noun)
        if not ids:
            raise UserInputError(
                f"The class noun {inputs.class_noun!r} has no token this model knows. Write a plain word."
            )
        empty = torch.empty(0)
        length = base.tokenizers[name].max_length
        end = end_position(PromptWords(empty, torch.empty(len(ids), 0), empty, empty, length), settings.prompt_scheme)
        for caption in inputs.captions:
            _check_caption_length(caption, len(noun_ids(base.clip, name, caption)), length - 1 - end, length)
    for caption in inputs.regularization_captions:
        check_class_caption(base, caption)
    check_optimizer(settings.optimizer)


def check_class_caption(base: HostModel, caption: str) -> None:
    """Refuse a regularization caption that does not fit into one prompt.

    Raises:
        UserInputError: as above.
    """
    tokens, _ = real_tokens(base.clip, caption)
    if any(len(rows) > 1 for rows in tokens.values()):
        raise UserInputError(f"The regularization caption {caption!r} is longer than 75 tokens. Shorten it.")


def _check_caption_length(caption: str, tokens: int, room: int, length: int) -> None:
    if tokens > room:
        raise UserInputError(
            f"The caption {caption!r} has {tokens} tokens; of the {length} that the text encoder takes, {room} are left for it "
            "beside the subject and the contexts. Shorten it."
        )


def images_from(batches: Sequence[Tensor] | None) -> list[Tensor]:
    """Return the single images [height, width, channels] of a list of IMAGE batches."""
    return [image for batch in batches or [] for image in batch]


def masks_from(batches: Sequence[Tensor] | None) -> list[Tensor]:
    """Return the single masks [height, width] of a list of MASK batches; none when all are white everywhere."""
    masks = [mask for batch in batches or [] for mask in batch.reshape(-1, *batch.shape[-2:])]
    return masks if any((mask != 1.0).any() for mask in masks) else []


def one_caption_each(texts: Sequence[str] | None, images: int, class_noun: str) -> list[str]:
    """Return a caption per class image: a text or a line each, the only line for all, "photo of a <noun>" without any.

    Captions without images are none: see ``unused_captions``.
    """
    usual = template_prompt(class_noun)
    given = captions_from(texts, images) if images else []
    return [caption or usual for caption in given] or [usual] * images


def unused_captions(texts: Sequence[str] | None, images: int) -> list[str]:
    """Return what is to be said of regularization captions that come without images, as a bypassed node hands on a text."""
    given = [" ".join(text.split()) for text in texts or []]
    unused = next((text for text in given if text), None)
    if images or unused is None:
        return []
    return [f"The regularization captions ({unused!r}) are not used, as there are no regularization images."]


def captions_from(texts: Sequence[str] | None, images: int) -> list[str]:
    """Return a caption per image, "" for an image without: a text or a line each, or the only line for all; [] without any.

    An empty line is an image without where there are as many lines as images, and nothing otherwise; an empty last line
    counts where it makes the number right, and empty lines behind the only one are nothing.
    """
    texts = [without_marks(text) for text in texts or []]
    if len(texts) == images:  # a list, as Load Image Folder gives it
        captions = [" ".join(text.split()) for text in texts]
    else:
        lines = [line.strip() for text in texts for line in text.splitlines()]
        written = [line for line in lines if line]
        ends_empty = len(written) > 1 and texts[-1].endswith("\n")
        ways = [lines, [*lines, ""]] if ends_empty else [lines]
        one_each = next((way for way in ways if len(way) == images and way[:1] != written), None)
        captions = one_each or (written * images if len(written) == 1 else written)
    return captions if any(captions) else []
