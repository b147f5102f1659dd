"""Compare the shipped demo model in ComfyUI's own classes, as the node loads it, with the networks of the training code."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demo_world.autoencoder import SD1_SCALE, decode_latents
from demo_world.denoiser import LATENT_SHAPE, predict_noise
from demo_world.model import MODEL_FILE, Networks, read_weights
from demo_world.storage import training_log
from demo_world.tokens import tokenize
from workbench.pack import load_pack

TEXT = "drawing of a turtle with an apple on grass"
TIMESTEPS = (900.0, 90.0)
TOLERANCE = 1e-4  # both compute in float32 from the same weights, in another order


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two tensors of one shape, relative to the largest value of the first."""
    return float((ours - theirs).abs().max() / ours.abs().max())


@torch.inference_mode()
def differences(networks: Networks, models: tuple[Any, Any, Any]) -> dict[str, float]:
    """How far the host's networks are from ours, by name: the relative difference of what they put out.

    Args:
        networks: ours, on the CPU.
        models: the host's MODEL, CLIP and VAE, computing on the CPU.
    """
    model, clip, vae = models
    context = networks.model.text_encoder(tokenize([TEXT]))
    host_context = clip.encode_from_tokens_scheduled(clip.tokenize(TEXT))[0][0]

    noisy = torch.randn((len(TIMESTEPS), *LATENT_SHAPE), generator=torch.Generator().manual_seed(1))
    timestep, both = torch.tensor(TIMESTEPS), context.expand(len(TIMESTEPS), -1, -1)
    noise = predict_noise(networks.model.unet, noisy, timestep, both)
    host_noise = model.model.diffusion_model(noisy, timestep, both, transformer_options={})

    pictures = decode_latents(networks.autoencoder, noisy).movedim(1, -1)  # [B, h, w, 3]
    host_pictures = vae.decode(noisy / SD1_SCALE)
    return {
        "text encoder": relative_difference(context, host_context),
        "UNet": relative_difference(noise, host_noise),
        "decoder": relative_difference(pictures, host_pictures),
    }


def agree(found: dict[str, float]) -> bool:
    """Whether all differences are within the tolerance; one that is no number is not."""
    return all(difference <= TOLERANCE for difference in found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_FILE, help="by default the file the node reads")
    arguments = parser.parse_args()
    load_pack(cpu=True)
    from comfyui_dci.nodes.host.demo_model import load_model_file

    log = training_log("verify_host")
    found = differences(read_weights(arguments.model), load_model_file(arguments.model))
    for name, difference in found.items():
        log.info("%s: relative difference %.1e", name, difference)
    if not agree(found):
        raise SystemExit(
            f"The host computes something else than the training code: a relative difference is above {TOLERANCE}, or no "
            "number. Export the model again; where that does not help, this ComfyUI computes in another way."
        )


if __name__ == "__main__":
    main()
