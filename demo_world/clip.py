"""A small CLIP of the demo world, in transformers' own layout: it reads pictures and captions as a real CLIP does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.tensor_file import check_content, read_tensors, write_tensors
from comfyui_dci.dci_core.vocabulary import complete_vocabulary
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from demo_world.pool import VIEW_PX
from demo_world.storage import RELEASE, require
from demo_world.tokens import END, LENGTH, known_ids
from study.alignment import ClipScorer, Preprocessing, folder_tokenizer
from workbench.pack import import_host

CLIP_FILE = RELEASE / "dci-demo-clip.safetensors"
CLIP_COMMAND = "python -m demo_world.commands.train_clip --export"
VOCABULARY = END + 1
FEATURES = 192
VISION_WIDTH = 192
VISION: dict[str, Any] = {
    "hidden_size": VISION_WIDTH,
    "intermediate_size": 4 * VISION_WIDTH,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "image_size": VIEW_PX,
    "patch_size": 16,
    "hidden_act": "gelu",
}
TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "hidden_act": "gelu",
}
PREPROCESSOR: dict[str, Any] = {
    "size": {"shortest_edge": VIEW_PX},
    "crop_size": {"height": VIEW_PX, "width": VIEW_PX},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
LICENSE = "Apache-2.0; trained on drawings of Fluent Emoji (MIT, Microsoft Corporation)"

_WORDS = "text_model.embeddings.token_embedding.weight"
_IDS = "text_token_ids"


def clip_config(tokens: int = VOCABULARY) -> dict[str, Any]:
    """What transformers keeps as ``config.json``.

    Args:
        tokens: rows of the token embedding: CLIP's whole vocabulary, or those of `known_ids` alone. Start and end are
            the last two of either, and the first end in a text is where its features are read.
    """
    marks = {"bos_token_id": tokens - 2, "eos_token_id": tokens - 1, "pad_token_id": tokens - 1}
    text = {**TEXT, "vocab_size": tokens, **marks}
    return {"model_type": "clip", "projection_dim": FEATURES, "text_config": text, "vision_config": VISION}


def build_clip(tokens: int = VOCABULARY) -> CLIPModel:
    """A CLIP with random weights by torch's global seed.

    Args:
        tokens: as in `clip_config`; training takes ``len(known_ids())`` and row numbers for token ids.
    """
    return CLIPModel(CLIPConfig(**clip_config(tokens)))


def save_clip(trained: CLIPModel, path: Path = CLIP_FILE) -> None:
    """Write a CLIP in half precision, with the rows of the known words only.

    Args:
        trained: with a row for each of `known_ids`.
        path: of the file, safetensors.
    """
    tensors = {name: value.detach().half().cpu().contiguous() for name, value in trained.state_dict().items()}
    metadata = {
        "format": "pt",
        "config": json.dumps(clip_config()),
        "preprocessor_config": json.dumps(PREPROCESSOR),
        "license": LICENSE,
    }
    write_tensors(path, {**tensors, _IDS: torch.tensor(known_ids())}, metadata)


def load_clip(path: Path = CLIP_FILE) -> CLIPModel:
    """Read the shipped CLIP, in evaluation mode and float32.

    Raises:
        FileNotFoundError: there is no such file.
        UserInputError: it is damaged.
    """
    return _read(path)[0]


def clip_scorer(path: Path = CLIP_FILE) -> ClipScorer:
    """The scorer by the shipped CLIP, with the host's tokenizer; see `load_clip`."""
    model, preprocessing = _read(path)
    import_host()
    import comfy.sd1_clip

    words = Path(str(comfy.sd1_clip.__file__)).parent / "sd1_tokenizer"
    return ClipScorer(model, folder_tokenizer(words, LENGTH), preprocessing)


def _read(path: Path) -> tuple[CLIPModel, Preprocessing]:
    try:
        tensors, metadata = read_tensors(require(path, CLIP_COMMAND))
        facts = check_content(path, tensors, metadata)
        ids = tensors.pop(_IDS)
        preprocessing = Preprocessing.from_config(json.loads(facts["preprocessor_config"]))
        return _load(json.loads(facts["config"]), tensors, ids), preprocessing
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = "it is cut off or was changed" if isinstance(error, UserInputError) else error
        raise UserInputError(
            f"The demo world's CLIP cannot be read from {path} ({reason}). Check the repository out again; with git, "
            "make sure that large files were downloaded."
        ) from error


def _load(config: dict[str, Any], tensors: dict[str, Tensor], ids: Tensor) -> CLIPModel:
    """A CLIP of these weights, whose token embedding holds the rows of `ids` alone; all other words get random ones."""
    weights = {name: value.float() for name, value in tensors.items()}
    weights[_WORDS] = complete_vocabulary(weights[_WORDS], ids, int(config["text_config"]["vocab_size"]))
    model = CLIPModel(CLIPConfig(**config))
    model.load_state_dict(weights)
    model.train(False)
    return model
