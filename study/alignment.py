"""Text and image alignment, CLIP-T and CLIP-I of the paper: cosines between features of a CLIP in transformers' layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.log import LOG
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

Tokenizer = Callable[[Sequence[str]], Tensor]
"""Makes token ids of texts, [B, K], int64: start, words, end, and the end again as padding."""

BATCH = 32  # pictures or texts a pass
CONFIG_FILE, PREPROCESSOR_FILE = "config.json", "preprocessor_config.json"


@dataclass(frozen=True)
class Preprocessing:
    """What a CLIP does to a picture first: bicubic to a size of its shorter side, the square in the middle, normalised.

    Args:
        side_px: the shorter side after resizing, and the side of the square.
        mean: per channel, subtracted from 0 … 1.
        deviation: per channel, what the rest is divided by.
    """

    side_px: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Read what transformers keeps as ``preprocessor_config.json``.

        Raises:
            UserInputError: it says anything else than CLIP's own steps, or lacks an entry.
        """
        try:
            size, crop = config["size"], config["crop_size"]
            side = size["shortest_edge"] if isinstance(size, Mapping) else size
            square = (crop["height"], crop["width"]) if isinstance(crop, Mapping) else (crop, crop)
            mean, deviation = (tuple(map(float, config[name])) for name in ("image_mean", "image_std"))
        except (KeyError, TypeError, ValueError) as error:
            raise UserInputError(
                f"The preprocessing has no usable {error}; a CLIP's needs size (shortest_edge), crop_size, "
                f"image_mean and image_std. Take {PREPROCESSOR_FILE} from where the CLIP comes from."
            ) from error
        steps = {name: config.get(name, True) for name in ("do_resize", "do_center_crop", "do_normalize")}
        bicubic = config.get("resample", Image.Resampling.BICUBIC) == Image.Resampling.BICUBIC
        if not (all(steps.values()) and bicubic and square == (side, side) and len(mean) == len(deviation) == 3):
            raise UserInputError(
                f"The preprocessing resizes to {size}, crops to {crop}, resamples by {config.get('resample', 3)}, with "
                f"{steps}, mean {mean} and deviation {deviation}. Only CLIP's own is computed here: a bicubic resize of "
                "the shorter side (3), a square of that size from the middle, and three values to normalise by."
            )
        return cls(int(side), mean, deviation)

    def prepare(self, images: Tensor) -> Tensor:
        """Make a CLIP's input of pictures, bit for bit as transformers' own processor does with Pillow.

        Args:
            images: [B, H, W, 3] in 0 … 1; rounded to 8 bits, as they would be in a file.

        Returns:
            [B, 3, side_px, side_px], float32, on the CPU.

        Raises:
            ValueError: `images` has another shape.
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"Expected images of shape [B, H, W, 3], but got {list(images.shape)}.")
        pixels = (images.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()
        squares = np.stack([self._square(picture) for picture in pixels])
        unit = (squares.astype(np.float64) / 255).astype(np.float32)
        mean, deviation = (np.array(values, dtype=np.float32) for values in (self.mean, self.deviation))
        normalised = (unit - mean) / deviation
        return torch.from_numpy(normalised).movedim(-1, 1)

    def _square(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = picture.shape[:2]
        short, side = min(height, width), self.side_px
        size = (side * width // short, side * height // short)
        resized = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        return np.asarray(resized.crop((left, top, left + side, top + side)))


class ClipScorer:
    """Features and alignments by one CLIP.

    Args:
        model: in transformers' layout; it is put into evaluation mode, and stays where it is.
        tokenizer: of the words it was trained with.
        preprocessing: of the pictures it was trained with.
    """

    def __init__(self, model: CLIPModel, tokenizer: Tokenizer, preprocessing: Preprocessing) -> None:
        self._model = model.requires_grad_(False)
        self._model.train(False)
        self._tokenizer = tokenizer
        self._preprocessing = preprocessing

    @classmethod
    def from_folder(cls, folder: Path, device: str | torch.device = "cpu") -> ClipScorer:
        """Load a CLIP of any size as it is published: config, weights (safetensors), tokenizer and preprocessor config.

        Args:
            folder: on this machine; nothing is downloaded.
            device: where it computes.

        Raises:
            UserInputError: a file is missing, damaged, or of another kind of model.
        """
        try:
            model = _read_model(folder)
            tokenizer = folder_tokenizer(folder, model.config.text_config.max_position_embeddings)
            preprocessing = Preprocessing.from_config(_read_json(folder / PREPROCESSOR_FILE))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserInputError(
                f"No CLIP can be read from {folder} ({error}). Put there, from one place: {CONFIG_FILE}, "
                f"model.safetensors, vocab.json, merges.txt, tokenizer_config.json and {PREPROCESSOR_FILE}."
            ) from error
        return cls(model.to(device=torch.device(device), dtype=torch.float32), tokenizer, preprocessing)

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """Return the features of pictures.

        Args:
            images: [B, H, W, 3] in 0 … 1, of any size.

        Returns:
            [B, D], float32 on the CPU, each of length 1.
        """
        return torch.cat([self._image_features(batch) for batch in images.split(BATCH)])

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Return the features of texts, as `image_features`.

        Args:
            texts: B of them. What does not fit (75 tokens in the usual CLIP) is cut off with a warning.
        """
        starts = range(0, len(texts), BATCH)
        return torch.cat([self._text_features(texts[start : start + BATCH]) for start in starts])

    def text_alignment(self, images: Tensor, texts: str | Sequence[str]) -> Tensor:
        """Return CLIP-T: the cosine of each picture and its text.

        Args:
            images: [B, H, W, 3] in 0 … 1.
            texts: B texts, or one for all, without the concept's own words: the prompt without V*, "a dog on a beach".

        Returns:
            [B], -1 … 1, higher where the picture shows more of what the text says.

        Raises:
            ValueError: there are as many texts as neither 1 nor B.
        """
        texts = [texts] * len(images) if isinstance(texts, str) else texts
        if len(texts) != len(images):
            raise ValueError(f"{len(images)} pictures came with {len(texts)} texts; give one a picture, or one string.")
        return (self.image_features(images) * self.text_features(texts)).sum(dim=1)

    def image_alignment(self, images: Tensor, references: Tensor) -> Tensor:
        """Return CLIP-I: the mean cosine of each picture and all references.

        Args:
            images: [B, H, W, 3] in 0 … 1.
            references: [R, H, W, 3] in 0 … 1, of any size.

        Returns:
            [B], -1 … 1, higher where the picture is more like the references.
        """
        return (self.image_features(images) @ self.image_features(references).T).mean(dim=1)

    def _image_features(self, images: Tensor) -> Tensor:
        pixels = self._preprocessing.prepare(images).to(self._model.device)
        return _of_length_one(self._model.visual_projection(self._model.vision_model(pixels).pooler_output))

    def _text_features(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(texts).to(self._model.device)
        return _of_length_one(self._model.text_projection(self._model.text_model(tokens).pooler_output))


def folder_tokenizer(folder: Path, length: int) -> Tokenizer:
    """Return the CLIP tokenizer of a folder.

    Args:
        folder: with ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json``.
        length: most tokens of a text, start and end among them: the CLIP's positions. The rest is cut off with a warning.
    """
    words = CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    def tokenize(texts: Sequence[str]) -> Tensor:
        whole = words(list(texts))["input_ids"]
        if cut := [text for text, ids in zip(texts, whole, strict=True) if len(ids) > length]:
            LOG.warning("CLIP reads %d tokens, so the end of %d texts is not scored: %r", length, len(cut), cut[0])
        end = words.eos_token_id
        rows = torch.full((len(whole), min(length, max(map(len, whole)))), end, dtype=torch.int64)
        for row, ids in zip(rows, whole, strict=True):
            kept = ids if len(ids) <= length else [*ids[: length - 1], end]
            row[: len(kept)] = torch.tensor(kept)
        return rows

    return tokenize


def _read_model(folder: Path) -> Any:
    """A CLIPModel whose weights are all there; transformers itself would only warn, and make them up."""
    if (kind := _read_json(folder / CONFIG_FILE).get("model_type")) != "clip":
        raise ValueError(f'its model_type is {kind!r}, not "clip"')
    loaded: Any = CLIPModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"its weights lack {', '.join(missing[:3])}")
    return model


def _of_length_one(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1).cpu()


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
