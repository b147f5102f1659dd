"""Train the demo model's 8x autoencoder (4 latent channels) on crops of drawings. Resumes by default.

The budget is the time of the whole training. At the end the latents are whitened, so that the UNet sees unit variance.
`demo_world.commands.train_model --from-scratch` takes what comes out.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor

from demo_world.autoencoder import (
    build_autoencoder,
    decode_latents,
    encode_pictures,
    posterior,
    preview_factors,
    whiten_latents,
)
from demo_world.commands.options import positive_float, positive_int
from demo_world.model import AUTOENCODER_RESULT, write_autoencoder
from demo_world.placement import PICTURE_PX
from demo_world.precision import fast_matrices, training_device
from demo_world.renderer import Renderer
from demo_world.scenes import sample_scene
from demo_world.storage import cache_folder, training_log
from demo_world.training import Pace, Training

CHECKPOINT = "autoencoder.pt"
SEED = 7
CROP_PX, CROP_STEP_PX = 128, 8
CROPS = 3  # of each drawing, in steps one after the other
STATISTICS_NUMBER, STATISTICS_BATCH = 1_000_000_000, 16  # of drawings that training does not see
EDGE_WEIGHT = 0.8
SQUARE_WEIGHT = 0.25
KL_WEIGHT = 2e-5


def draw_pictures(renderer: Renderer, count: int, number: int) -> Tensor:
    """Drawings of random scenes, [count, 3, PICTURE_PX, PICTURE_PX] in 0 … 1; equal numbers give the same."""
    rng = np.random.default_rng([SEED, number])
    scenes = [sample_scene(rng) for _ in range(count)]
    pictures = renderer.draw(scenes, torch.Generator().manual_seed(int(rng.integers(2**31)))).pictures
    return pictures.contiguous(memory_format=torch.channels_last)


def crop(pictures: Tensor, step: int) -> Tensor:
    """The part of pictures [B, 3, PICTURE_PX, PICTURE_PX] that a step looks at, [B, 3, CROP_PX, CROP_PX]."""
    places = np.arange(0, PICTURE_PX - CROP_PX + 1, CROP_STEP_PX)
    top, left = np.random.default_rng([SEED, step, 1]).choice(places, size=2)
    return pictures[:, :, top : top + CROP_PX, left : left + CROP_PX]


def training_loss(model: Any, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Reconstruction from sampled latents: L1 of pixels and of their differences to the right and below, which keeps
    edges sharp, a share of squares against single wrong pixels, and a light pull towards unit Gaussians.

    Args:
        model: an AutoencoderKL, on the pictures' device.
        pictures: [B, 3, h, w] in 0 … 1.
        generator: of the noise, on that device.
    """
    target = pictures * 2.0 - 1.0
    with fast_matrices(pictures.device):
        mean, log_variance = posterior(model, target)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        output = model.decode(mean + (0.5 * log_variance).exp() * noise)
    error, mean, log_variance = output.float() - target, mean.float(), log_variance.float()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
    return error.abs().mean() + EDGE_WEIGHT * edges + SQUARE_WEIGHT * error.square().mean() + KL_WEIGHT * divergence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=positive_float, default=3.0, help="of the whole training")
    parser.add_argument("--batch", type=positive_int, default=96)
    parser.add_argument("--learning-rate", type=positive_float, default=1e-3)
    parser.add_argument(
        "--statistics", type=positive_int, default=256, help="drawings that whitening measures the latents of"
    )
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    options = parser.parse_args()

    log, device, checkpoint = training_log("autoencoder"), training_device(), cache_folder() / CHECKPOINT
    torch.manual_seed(0)
    model = build_autoencoder().to(device, memory_format=torch.channels_last)
    pace = Pace(60.0 * options.minutes, options.learning_rate, warmup=100, decay_share=0.4, average_decay=0.998)
    groups: list[dict[str, object]] = [{"params": list(model.parameters()), "rate": 1.0, "weight_decay": 1e-4}]
    training = Training(model, groups, pace, checkpoint, "new weights", log)
    if checkpoint.exists() and not options.restart:
        training.resume()
    renderer = Renderer(device)
    count = sum(parameter.numel() for parameter in model.parameters())
    log.info("%d parameters, from step %d, on %s, after %.0f s", count, training.step, device, training.spent)
    pictures = draw_pictures(renderer, options.batch, training.step // CROPS)
    while training.done < 1.0:
        if training.step % CROPS == 0:
            pictures = draw_pictures(renderer, options.batch, training.step // CROPS)
        generator = torch.Generator(device).manual_seed(training.step)
        training.learn(training_loss(model, crop(pictures, training.step), generator))
    training.finish()
    model.eval().requires_grad_(False)
    numbers = range(STATISTICS_NUMBER, STATISTICS_NUMBER + -(-options.statistics // STATISTICS_BATCH))
    others = torch.cat([draw_pictures(renderer, STATISTICS_BATCH, number) for number in numbers])
    whiten_latents(model, others)
    some = others[:STATISTICS_BATCH]
    error = 255.0 * float((decode_latents(model, encode_pictures(model, some)) - some).abs().mean())
    path = cache_folder() / AUTOENCODER_RESULT
    write_autoencoder(path, model, preview_factors(model, others))
    log.info("wrote %s after %d steps; pictures come back with an error of %.2f of 255", path, training.step, error)


if __name__ == "__main__":
    main()
