"""Train the demo model's 8x autoencoder (4 latent channels) in the host's AutoencoderKL. Resumes by default.

First the encoder, against a cheap stand-in decoder; then it is frozen, latents can be made, and the real decoder
learns to draw them. The second part may run, and be prolonged, at any time before the model is exported.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo_world.autoencoder import AUTOENCODER_CHECKPOINT, build_autoencoder, posterior, whiten_latents
from demo_world.patch_decoder import PatchDecoder
from demo_world.pool import PIXELS_PER_LATENT, Pool, open_pool
from demo_world.precision import fast_matrices
from demo_world.schedule import warmup_stable_decay
from demo_world.storage import cache_folder, load_checkpoint, save_checkpoint, training_log

KL_WEIGHT = 1e-4
EDGE_WEIGHT = 0.5
FOREGROUND_WEIGHT = 2.0
LATENT_NOISE = 0.05  # of the latents' deviation, while the decoder learns: what the denoiser leaves behind
ENCODER_NOISE = 0.1  # the same while the encoder learns: it spreads what it tells over all four channels
CROP_CELLS = 8  # of 16 latent cells, while the decoder learns; the last fifth uses whole pictures


def sample_pictures(pool: Pool, batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random pictures [B, 3, 128, 128] in -1 ... 1 and pixel weights [B, 1, 128, 128]."""
    index = rng.integers(0, len(pool), batch)
    pictures = torch.from_numpy(pool.pictures(index)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    coverage = torch.from_numpy(pool.coverage[index]).float()[:, None] / 255.0
    return pictures, 1.0 + FOREGROUND_WEIGHT * F.interpolate(coverage, scale_factor=PIXELS_PER_LATENT, mode="nearest")


def reconstruction_loss(output: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted L1 of the pixels plus L1 of their differences to the right and below, which keeps edges sharp."""
    loss = (weights * (output - target).abs()).mean()
    for axis in (-1, -2):
        difference = (output.diff(dim=axis) - target.diff(dim=axis)).abs()
        loss = loss + EDGE_WEIGHT * (weights.narrow(axis, 1, difference.shape[axis]) * difference).mean()
    return loss


def encoder_loss(model: Any, stand_in: PatchDecoder, pool: Pool, batch: int, rng: np.random.Generator) -> Tensor:
    """Reconstruction through the stand-in from sampled latents, plus a light pull towards unit Gaussians."""
    pictures, weights = sample_pictures(pool, batch, rng)
    mean, log_variance = (moment.float() for moment in posterior(model, pictures))
    deviation = (0.5 * log_variance).exp() + ENCODER_NOISE * mean.detach().std()
    latents = mean + deviation * torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32))
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
    return reconstruction_loss(stand_in(latents).float(), pictures, weights) + KL_WEIGHT * divergence


def decoder_loss(model: Any, pool: Pool, batch: int, whole: bool, rng: np.random.Generator) -> Tensor:
    """Reconstruction of random crops (or of a quarter as many whole pictures) from slightly noisy latents."""
    pictures, weights = sample_pictures(pool, max(1, batch // 4) if whole else batch, rng)
    with torch.no_grad():
        latents = posterior(model, pictures)[0].float()
    latents = latents + LATENT_NOISE * latents.std() * torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
    if not whole:
        corners = rng.integers(0, latents.shape[-1] - CROP_CELLS + 1, (batch, 2))
        latents, pictures, weights = (
            torch.stack(
                [
                    item[:, scale * y : scale * (y + CROP_CELLS), scale * x : scale * (x + CROP_CELLS)]
                    for item, (y, x) in zip(items, corners, strict=True)
                ]
            )
            for items, scale in ((latents, 1), (pictures, PIXELS_PER_LATENT), (weights, PIXELS_PER_LATENT))
        )
    return reconstruction_loss(model.decode(latents).float(), pictures, weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder-steps", type=int, default=4000)
    parser.add_argument("--decoder-steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    arguments = parser.parse_args()

    log, pool, path = training_log("autoencoder"), open_pool(), cache_folder() / AUTOENCODER_CHECKPOINT
    torch.manual_seed(0)
    model, stand_in = build_autoencoder(), PatchDecoder()
    state: dict[str, Any] = {}
    if path.exists() and not arguments.restart:
        state = load_checkpoint(path)
        model.load_state_dict(state["model"])
        stand_in.load_state_dict(state["stand_in"])
    for stage, steps in (("encoder", arguments.encoder_steps), ("decoder", arguments.decoder_steps)):
        if stage == "encoder" and state.get("stage") == "decoder":
            continue
        coder = [model.encoder, model.quant_conv]
        modules = [*coder, stand_in] if stage == "encoder" else [model.post_quant_conv, model.decoder]
        trained = [parameter for module in modules for parameter in module.parameters()]
        optimizer = torch.optim.AdamW(trained, lr=arguments.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3)
        step = 0
        if state.get("stage") == stage and state["optimiser"]:
            optimizer.load_state_dict(state["optimiser"])
            step = state["step"]

        def save(stage: str, step: int, optimizer: torch.optim.Optimizer | None) -> None:
            save_checkpoint(
                path,
                {
                    "model": model.state_dict(),
                    "stand_in": stand_in.state_dict(),
                    "stage": stage,
                    "step": step,
                    "optimiser": optimizer.state_dict() if optimizer else None,
                },
            )

        log.info("%s: %d trained parameters, from step %d", stage, sum(p.numel() for p in trained), step)
        losses: list[float] = []
        saved_at = time.monotonic()
        while step < steps:
            rng = np.random.default_rng([7, len(stage), ord(stage[0]), step])
            for group in optimizer.param_groups:
                group["lr"] = arguments.learning_rate * warmup_stable_decay(step, steps, warmup=50)
            with fast_matrices():
                if stage == "encoder":
                    loss = encoder_loss(model, stand_in, pool, arguments.batch, rng)
                else:
                    loss = decoder_loss(model, pool, arguments.batch, step >= 0.8 * steps, rng)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            step += 1
            losses.append(float(loss.detach()))
            if step % 50 == 0:
                log.info("%s: step %d loss %.4f", stage, step, sum(losses) / len(losses))
                losses.clear()
            if time.monotonic() - saved_at > 120:
                save(stage, step, optimizer)
                saved_at = time.monotonic()
        if stage == "encoder":
            whiten_latents(model, sample_pictures(pool, 256, np.random.default_rng(11))[0])
            save("decoder", 0, None)
            log.info("the encoder is final; latents can be made now")
        else:
            save(stage, step, optimizer)


if __name__ == "__main__":
    main()
