"""The bundled demo model and its subjects, as the host's own objects.

The model has SD1's layout, but is far smaller than any model the host recognises, so it is built from the
configuration in its file instead of being guessed from its tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from safetensors import SafetensorError

from ...dci_core.errors import UserInputError
from ...dci_core.images.folder import read_image
from ...dci_core.int8 import decompress
from ...dci_core.tensor_file import HASH_KEY, content_hash
from ...dci_core.vocabulary import complete_vocabulary

RELEASE = Path(__file__).resolve().parents[2] / "demo_world" / "release"
MODEL_FILE = RELEASE / "dci-demo.safetensors"
SUBJECTS_FILE = RELEASE / "subjects.json"
VOCABULARY = 49408
TOKEN_EMBEDDING = "text_model.embeddings.token_embedding.weight"


@dataclass(frozen=True)
class Subject:
    """A custom subject that the demo model has never seen.

    Args:
        name: as in the node's list.
        class_noun: the word the model knows for it.
    """

    name: str
    class_noun: str


def load_demo_model(disable_dynamic: bool = False) -> tuple[Any, Any, Any]:
    """Return the host's MODEL, CLIP and VAE of the demo model; see ``load_model_file``."""
    return load_model_file(MODEL_FILE, disable_dynamic)


def load_model_file(path: Path, disable_dynamic: bool = False) -> tuple[Any, Any, Any]:
    """Return the host's MODEL, CLIP and VAE of a file that ``demo_world.commands.export_model`` wrote.

    The MODEL knows how to be loaded again, for nodes that want a copy of their own (the host's Train LoRA).

    Args:
        path: the file; weights stored as int8 become float16. A checksum is compared where it has one.
        disable_dynamic: make a MODEL without DynamicVRAM, which can exchange weights while it samples.

    Raises:
        UserInputError: the file is missing or damaged.
        comfy.model_management.OOM_EXCEPTION: memory ran out, which the host handles.
    """
    try:
        tensors, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
        _check_content(tensors, metadata or {})
        tensors = decompress(tensors)  # under the same name, so that the stored ones are freed
        models = build_models(tensors, metadata or {}, disable_dynamic)
    except management.OOM_EXCEPTION:
        raise  # a RuntimeError too, but not the file's fault
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        cure = (
            "Install this node pack again; with git, make sure that large files were downloaded."
            if path == MODEL_FILE
            else "Write it again: python -m demo_world.commands.export_model."
        )
        raise UserInputError(f"The demo model cannot be read from {path} ({error}). {cure}") from error
    models[0].cached_patcher_init = (_load_again, (path,))
    return models


def _load_again(path: Path, disable_dynamic: bool = False) -> Any:
    return load_model_file(path, disable_dynamic)[0]


def build_models(
    tensors: dict[str, torch.Tensor], metadata: Mapping[str, str], disable_dynamic: bool = False
) -> tuple[Any, Any, Any]:
    """Return the host's MODEL, CLIP and VAE of the tensors and metadata of a model file.

    Args:
        tensors: floating point, by the names of SD1's checkpoints, and ``text_token_ids``. They are taken out of it
            one network at a time, so that no more than one is there twice.
        metadata: the configurations of the networks, as JSON.
        disable_dynamic: see ``load_model_file``.

    Raises:
        ValueError: a tensor or a configuration is missing, or does not fit.
    """
    model = _model(_taken(tensors, "model.diffusion_model."), metadata, disable_dynamic)
    text = _taken(tensors, "cond_stage_model.transformer.")
    rows, ids = text.get(TOKEN_EMBEDDING), tensors.get("text_token_ids")
    if rows is None or ids is None:
        raise ValueError("it has no token embedding, or does not say of which tokens")
    text[TOKEN_EMBEDDING] = complete_vocabulary(rows, ids, VOCABULARY)
    return model, _clip(text, metadata), _vae(_taken(tensors, "first_stage_model."), metadata)


def _check_content(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Compare what was read with the checksum, if there is one."""
    rest = {name: value for name, value in metadata.items() if name != HASH_KEY}
    if HASH_KEY in metadata and metadata[HASH_KEY] != content_hash(tensors, rest):
        raise ValueError("its content does not match its checksum")


def _taken(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with a prefix, without it; they are no longer in the dict."""
    return {name[len(prefix) :]: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def _configuration(metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return an entry of the metadata, a JSON object."""
    if name not in metadata:
        raise ValueError(f"its metadata lacks {name}")
    entry = json.loads(metadata[name])
    if not isinstance(entry, dict):
        raise ValueError(f"its metadata {name} must be a JSON object, not {metadata[name][:40]}")
    return entry


def _model(weights: dict[str, torch.Tensor], metadata: Mapping[str, str], disable_dynamic: bool) -> Any:
    config = comfy.supported_models.SD15(_configuration(metadata, "unet_config"))
    config.unet_config = _configuration(metadata, "unet_config")  # the class puts in SD1's number of heads
    for name, value in _configuration(metadata, "preview").items():
        setattr(config.latent_format, name, value)
    device, count = management.get_torch_device(), sum(value.numel() for value in weights.values())
    dtype = management.unet_dtype(model_params=count, supported_dtypes=list(config.supported_inference_dtypes))
    config.set_inference_dtype(
        dtype, management.unet_manual_cast(dtype, device, list(config.supported_inference_dtypes))
    )
    model = config.get_model(weights, "", device=management.unet_offload_device())
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = kind(model, load_device=device, offload_device=management.unet_offload_device())
    _check("UNet", set(weights) ^ set(model.diffusion_model.state_dict()))
    model.load_model_weights(weights, "", assign=patcher.is_dynamic())
    return patcher


def _clip(weights: dict[str, torch.Tensor], metadata: Mapping[str, str]) -> Any:
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    options = {"clip_l_model_config": _configuration(metadata, "text_config")}
    clip = comfy.sd.CLIP(target, embedding_directory=folder_paths.get_folder_paths("embeddings"), model_options=options)
    missing, unexpected = clip.load_sd(weights)
    _check("text encoder", {*missing, *unexpected})
    return clip


def _vae(weights: dict[str, torch.Tensor], metadata: Mapping[str, str]) -> Any:
    vae = comfy.sd.VAE(sd=weights, config={"params": _configuration(metadata, "autoencoder_config")})
    _check("autoencoder", set(weights) ^ set(vae.first_stage_model.state_dict()))
    return vae


def _check(part: str, differences: set[str]) -> None:
    if differences:
        raise ValueError(f"its {part} does not fit: {', '.join(sorted(differences)[:3])}")


def list_subjects() -> list[Subject]:
    """Return the bundled subjects, from much like what the model knows of their class to unlike it."""
    entries = json.loads(SUBJECTS_FILE.read_text(encoding="utf-8"))
    return [Subject(entry["name"], entry["class_noun"]) for entry in entries]


def find_subject(name: str) -> Subject:
    """Return the subject of that name.

    Raises:
        UserInputError: there is none.
    """
    subjects = {subject.name: subject for subject in list_subjects()}
    if name not in subjects:
        raise UserInputError(f"There is no demo subject {name!r}. Choose one of: {', '.join(subjects)}.")
    return subjects[name]


def subject_images(subject: Subject) -> torch.Tensor:
    """Return the reference images of a subject, [B, H, W, 3] in 0 … 1."""
    folder = RELEASE / "subjects" / subject.name
    files = sorted(folder.glob("*.webp"))
    if not files:
        raise UserInputError(f"There are no pictures in {folder}. Install this node pack again.")
    return torch.stack([read_image(file).image for file in files])
