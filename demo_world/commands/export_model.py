"""Write a trained demo model as the file that the node reads: int8 weights, the rest float16, with metadata."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from comfyui_dci.dci_core.files import megabytes
from comfyui_dci.dci_core.int8 import compress
from comfyui_dci.dci_core.tensor_file import read_tensors, write_tensors
from torch import Tensor

from demo_world.storage import RELEASE, training_log

LARGEST_BYTES = 24_900_000
"""Of the weights: a file of 25 MB may go into the repository, and names and metadata are in it."""
PARTS: tuple[str, ...] = ("model.diffusion_model.", "cond_stage_model.transformer.", "first_stage_model.")
TOKEN_IDS = "text_token_ids"
CONFIGURATIONS: tuple[str, ...] = ("unet_config", "text_config", "autoencoder_config", "preview", "vocabulary")
STEPS = "training_steps"


def check_source(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Check that a file holds what the node needs, and nothing else.

    Raises:
        ValueError: a network, the token ids or a configuration is missing, or a tensor belongs to none of them.
    """
    missing = [
        *(part for part in PARTS if not any(name.startswith(part) for name in tensors)),
        *(name for name in (TOKEN_IDS,) if name not in tensors),
        *(name for name in CONFIGURATIONS if name not in metadata),
    ]
    strange = [name for name in tensors if name != TOKEN_IDS and not name.startswith(PARTS)]
    if missing or strange:
        raise ValueError(
            f"The file lacks {missing} and has {strange[:3]} beside a demo model; give one with tensors named "
            f"{', '.join(PARTS)} and {TOKEN_IDS}, and metadata {', '.join(CONFIGURATIONS)}."
        )


def release_metadata(source: Mapping[str, str], steps: int | None) -> dict[str, str]:
    """Return what a loader and a curious reader need to know; configurations as JSON.

    Args:
        source: metadata of the trained model.
        steps: the model was trained for; None takes what the source says.

    Raises:
        ValueError: neither says how many steps.
    """
    trained = source.get(STEPS) if steps is None else str(steps)
    if trained is None:
        raise ValueError("The file does not say how many steps it was trained for; say so with --training-steps.")
    return {
        "format": "pt",
        "modelspec.title": "DCI demo model",
        "modelspec.architecture": "stable-diffusion-v1 layout, reduced",
        "modelspec.prediction_type": "epsilon",
        "modelspec.resolution": "256x256",
        "modelspec.license": "Apache-2.0; trained on drawings of Fluent Emoji (MIT, Microsoft Corporation)",
        "storage": "int8",
        STEPS: trained,
        **{name: source[name] for name in CONFIGURATIONS},
    }


def write_release(source: Path, target: Path, steps: int | None = None) -> int:
    """Write the model file; the same source gives the same bytes.

    Args:
        source: a safetensors file in the layout that ``check_source`` names, float16 or float32.
        target: the file the node reads.
        steps: see ``release_metadata``.

    Returns:
        Its size in bytes.

    Raises:
        ValueError: the source is no demo model, or its weights would take more than LARGEST_BYTES; nothing is written.
    """
    tensors, metadata = read_tensors(source)
    check_source(tensors, metadata)
    stored = compress(tensors)
    size = sum(tensor.nbytes for tensor in stored.values())
    if size > LARGEST_BYTES:
        raise ValueError(
            f"The weights take {size} bytes, but at most {LARGEST_BYTES} may go into the repository; train a smaller model."
        )
    write_tensors(target, stored, release_metadata(metadata, steps))
    return target.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, help="the trained model, safetensors")
    parser.add_argument("--output", type=Path, default=RELEASE / "dci-demo.safetensors", help="what the node reads")
    parser.add_argument("--training-steps", type=int, default=None, help="by default what the file says")
    arguments = parser.parse_args()
    size = write_release(arguments.source, arguments.output, arguments.training_steps)
    training_log("export").info("wrote %s, %s", arguments.output, megabytes(size))


if __name__ == "__main__":
    main()
