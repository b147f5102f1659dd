"""The networks of the demo model together, and their file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from comfyui_dci.dci_core.int8 import decompress
from comfyui_dci.dci_core.tensor_file import read_tensors, write_tensors
from torch import Tensor, nn

from demo_world.autoencoder import AUTOENCODER_CONFIG, build_autoencoder
from demo_world.commands.export_model import PARTS, STEPS, TOKEN_IDS, check_source
from demo_world.denoiser import UNET_CONFIG, build_unet
from demo_world.storage import RELEASE
from demo_world.text_encoder import TEXT_CONFIG, TextEncoder
from demo_world.tokens import known_ids
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES

MODEL_FILE = RELEASE / "dci-demo.safetensors"
AUTOENCODER_RESULT = "autoencoder.safetensors"  # in the cache folder, where one was trained
UNET, TEXT, AUTOENCODER = PARTS  # what the names of a network's tensors begin with
PREVIEW = "preview"
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "unet_config": UNET_CONFIG,
    "text_config": TEXT_CONFIG,
    "autoencoder_config": AUTOENCODER_CONFIG,
}


class DemoModel(nn.Module):
    """UNet and text encoder, trained jointly."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = build_unet()
        self.text_encoder = TextEncoder()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.text_encoder.lookup.device


@dataclass(frozen=True)
class Networks:
    """All that is in a model file.

    Args:
        model: UNet and text encoder.
        autoencoder: an AutoencoderKL.
        preview: attributes for the host's latent format, as from `demo_world.autoencoder.preview_factors`.
        steps: that the model was trained for.
    """

    model: DemoModel
    autoencoder: Any
    preview: dict[str, Any]
    steps: int


def read_weights(path: Path = MODEL_FILE) -> Networks:
    """Read a model file, the shipped one or one by `write_weights`; the networks are frozen, float32, on the CPU.

    Args:
        path: safetensors, in the layout of the shipped file; weights stored as int8 become what the node makes of them.

    Raises:
        UserInputError: the file cannot be read.
        ValueError: it is no demo model, or one of other sizes or words than this code builds.
    """
    tensors, metadata = _read(path)
    check_source(tensors, metadata)
    _check_configurations(path, metadata, *CONFIGURATIONS)
    if tensors[TOKEN_IDS].tolist() != list(known_ids()):
        raise ValueError(f"The words of {path} are not those of demo_world.vocabulary; train a model with these words.")
    model = DemoModel()
    _load(path, model.unet, tensors, UNET)
    _load(path, model.text_encoder, tensors, TEXT)
    return Networks(
        model=model.eval().requires_grad_(False),
        autoencoder=_autoencoder(path, tensors),
        preview=_entry(path, metadata, PREVIEW),
        steps=int(metadata.get(STEPS, 0)),
    )


def write_weights(path: Path, networks: Networks, dtype: torch.dtype = torch.float16) -> None:
    """Write a model file that the node can load and `demo_world.commands.export_model` can shrink.

    Args:
        path: target.
        networks: on any device.
        dtype: of all weights, float16 or float32.

    Raises:
        ValueError: a weight is no finite number of that type; nothing is written.
    """
    parts = {
        UNET: networks.model.unet,
        TEXT: networks.model.text_encoder,
        AUTOENCODER: networks.autoencoder,
    }
    tensors = {TOKEN_IDS: torch.tensor(known_ids(), dtype=torch.int32)}
    for prefix, part in parts.items():
        tensors.update(_stored(part, prefix, dtype))
    words = {"nouns": list(NOUNS), "contexts": list(CONTEXTS), "styles": list(STYLES), "colours": list(COLOURS)}
    entries = {**CONFIGURATIONS, PREVIEW: networks.preview, "vocabulary": words}
    metadata = {name: json.dumps(entry) for name, entry in entries.items()}
    write_tensors(path, tensors, {"format": "pt", STEPS: str(networks.steps), **metadata})


def read_autoencoder(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read the autoencoder and the preview's factors of a model file, or of one by `write_autoencoder`.

    Args:
        path: safetensors.

    Returns:
        The AutoencoderKL, frozen, float32, on the CPU, and the factors.

    Raises:
        UserInputError: the file cannot be read.
        ValueError: there is no autoencoder in it, or one of another size.
    """
    tensors, metadata = _read(path)
    _check_configurations(path, metadata, "autoencoder_config")
    return _autoencoder(path, tensors), _entry(path, metadata, PREVIEW)


def write_autoencoder(path: Path, autoencoder: Any, preview: Mapping[str, Any]) -> None:
    """Write an autoencoder alone, as float32, for a model that is trained with it.

    Args:
        path: target.
        autoencoder: an AutoencoderKL, on any device.
        preview: as in `Networks`.

    Raises:
        ValueError: a weight is no finite number; nothing is written.
    """
    entries = {"autoencoder_config": AUTOENCODER_CONFIG, PREVIEW: dict(preview)}
    metadata = {name: json.dumps(entry) for name, entry in entries.items()}
    write_tensors(path, _stored(autoencoder, AUTOENCODER, torch.float32), {"format": "pt", **metadata})


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file; weights that were int8 are float16, as the node makes them."""
    tensors, metadata = read_tensors(path)
    if any(tensor.dtype == torch.int8 for tensor in tensors.values()):
        tensors = decompress(tensors, torch.float16)
    return tensors, metadata


def _stored(network: nn.Module, prefix: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a network under their names in a file."""
    stored = {}
    for name, value in network.state_dict().items():
        stored[prefix + name] = value.detach().to("cpu", dtype).contiguous()
        if not torch.isfinite(stored[prefix + name]).all():
            raise ValueError(f"{prefix}{name} holds values that are no finite numbers of {dtype}. Train again, slower.")
    return stored


def _check_configurations(path: Path, metadata: Mapping[str, str], *names: str) -> None:
    for name in names:
        found = _entry(path, metadata, name)
        if found != CONFIGURATIONS[name]:
            raise ValueError(
                f"The {name} of {path} is {found}, but this code builds {CONFIGURATIONS[name]}. "
                "Give a file that this version wrote."
            )


def _entry(path: Path, metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """A configuration in the metadata of a file."""
    if name not in metadata:
        raise ValueError(f"The metadata of {path} lacks {name}, so it is no file of the demo model. Give another one.")
    entry: dict[str, Any] = json.loads(metadata[name])
    return entry


def _autoencoder(path: Path, tensors: Mapping[str, Tensor]) -> Any:
    autoencoder = build_autoencoder()
    _load(path, autoencoder, tensors, AUTOENCODER)
    return autoencoder.eval().requires_grad_(False)


def _load(path: Path, network: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Give a network its weights."""
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"The tensors {prefix}* of {path} do not fit ({error}). Get the file anew.") from error
