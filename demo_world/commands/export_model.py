"""Write the trained demo model as one fp16 safetensors file with metadata."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from comfyui_dci.dci_core.files import write_atomically
from safetensors.torch import save_file
from torch import Tensor

from demo_world.autoencoder import AUTOENCODER_CONFIG
from demo_world.denoiser import UNET_CONFIG
from demo_world.latents import LatentPool, load_autoencoder, open_latents
from demo_world.model import load_model
from demo_world.pool import PIXELS_PER_LATENT, open_pool
from demo_world.storage import RELEASE, training_log
from demo_world.text_encoder import TEXT_CONFIG
from demo_world.tokens import known_ids
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES

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


def preview_factors(pool: LatentPool, pictures: Tensor) -> dict[str, Any]:
    """What the host's live preview needs: the linear map from latents to colours, by least squares.

    Args:
        pool: latents; the first ones belong to `pictures`.
        pictures: [B, 3, h, w] in -1 ... 1.

    Returns:
        Attributes for the host's latent format.
    """
    latents = pool.latents[: len(pictures)].float().movedim(1, -1).flatten(0, 2)  # [B * 16 * 16, 4]
    colours = F.avg_pool2d(pictures, PIXELS_PER_LATENT).movedim(1, -1).flatten(0, 2)  # [B * 16 * 16, 3]
    inputs = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    solution = torch.linalg.lstsq(inputs, colours).solution  # [5, 3]
    rounded = [[round(value, 4) for value in row] for row in solution.tolist()]
    return {"latent_rgb_factors": rounded[:4], "latent_rgb_factors_bias": rounded[4], "taesd_decoder_name": None}


def metadata(step: int) -> dict[str, str]:
    """What a loader and a curious reader need to know; configurations as JSON."""
    pictures = torch.from_numpy(open_pool().pictures(np.arange(200))).permute(0, 3, 1, 2).float() / 127.5 - 1.0
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
        "preview": json.dumps(preview_factors(open_latents(load_autoencoder()), pictures)),
        "vocabulary": json.dumps(
            {"nouns": list(NOUNS), "contexts": list(CONTEXTS), "styles": list(STYLES), "colours": list(COLOURS)}
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=None, help="by default the file the node reads")
    arguments = parser.parse_args()
    path = arguments.output or RELEASE / "dci-demo.safetensors"
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
