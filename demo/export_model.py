"""Write the trained demo model as one fp16 safetensors file with metadata."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from demo.autoencoder import AUTOENCODER_CONFIG  # noqa: E402
from demo.denoiser import UNET_CONFIG  # noqa: E402
from demo.latents import load_autoencoder  # noqa: E402
from demo.model import load_model  # noqa: E402
from demo.storage import cache_folder, training_log, write_atomically  # noqa: E402
from demo.text_encoder import TEXT_CONFIG  # noqa: E402
from demo.tokens import known_ids  # noqa: E402
from demo.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES  # noqa: E402

LARGEST_BYTES = 20_000_000


def checkpoint_tensors() -> tuple[dict[str, Tensor], int]:
    """All tensors under SD1's checkpoint prefixes, fp16, and the number of training steps.

    The token embedding has one row per id in `text_token_ids`; a loader scatters them into the full vocabulary.
    """
    model, step = load_model()
    parts = {
        "model.diffusion_model.": model.unet.state_dict(),
        "cond_stage_model.transformer.": model.text_encoder.state_dict(),
        "first_stage_model.": load_autoencoder().state_dict(),
    }
    tensors = {
        prefix + name: value.half().contiguous() for prefix, part in parts.items() for name, value in part.items()
    }
    tensors["text_token_ids"] = torch.tensor(known_ids(), dtype=torch.int32)
    return tensors, step


def metadata(step: int) -> dict[str, str]:
    """What a loader and a curious reader need to know; configurations as JSON."""
    return {
        "format": "pt",
        "modelspec.title": "DCI demo model",
        "modelspec.architecture": "stable-diffusion-v1 layout, reduced",
        "modelspec.prediction_type": "epsilon",
        "modelspec.resolution": "128x128",
        "modelspec.license": "Apache-2.0; trained on drawings of Noto Color Emoji (SIL OFL 1.1)",
        "training_steps": str(step),
        "unet_config": json.dumps(UNET_CONFIG),
        "text_config": json.dumps(TEXT_CONFIG),
        "autoencoder_config": json.dumps(AUTOENCODER_CONFIG),
        "vocabulary": json.dumps(
            {"nouns": list(NOUNS), "contexts": list(CONTEXTS), "styles": list(STYLES), "colours": list(COLOURS)}
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=None, help="by default dci-demo.safetensors in the cache folder")
    arguments = parser.parse_args()
    path = arguments.output or cache_folder() / "dci-demo.safetensors"
    tensors, step = checkpoint_tensors()
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata(step)))
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise ValueError(
            f"{path} has {size} bytes, but at most {LARGEST_BYTES} may go into the repository; "
            "make UNET_CONFIG smaller."
        )
    training_log("export").info("wrote %s, %.1f MB, step %d", path, size / 1e6, step)


if __name__ == "__main__":
    main()
