"""Train the demo model's UNet and text encoder on drawings made while it goes. Resumes by default.

The budget is the time of the whole training; the learning rate falls towards its end. The result is the running average of
the weights, in a file that `demo_world.commands.export_model --from` takes.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfyui_dci.dci_core.tensor_file import content_hash
from torch import Tensor

from demo_world.commands.options import positive_float, positive_int, share
from demo_world.denoiser import predict_noise, signal_and_noise
from demo_world.latents import Batch, LatentRing
from demo_world.model import (
    AUTOENCODER_RESULT,
    MODEL_FILE,
    DemoModel,
    Networks,
    read_autoencoder,
    read_weights,
    write_weights,
)
from demo_world.objective import cell_weights, draw_timesteps
from demo_world.precision import fast_matrices, training_device
from demo_world.pretrain_text import pretrain_text
from demo_world.renderer import Renderer
from demo_world.scenes import TRAINING_SHARES
from demo_world.storage import cache_folder, training_log
from demo_world.tokens import tokenize
from demo_world.training import Pace, Training

CHECKPOINT = "model.pt"
RESULT = "model.safetensors"
EMPTY_SHARE = 0.1  # captions left out, for classifier-free guidance
EMBEDDING_RATE = 0.1  # of the learning rate: words keep the small scale that learned concept tokens expect
RATE, RATE_BATCH = 1.2e-3, 256  # the rate by default with batches of that size; smaller ones get less


def training_loss(model: DemoModel, batch: Batch, generator: torch.Generator) -> Tensor:
    """The weighted noise-prediction error of a batch.

    Args:
        model: on the batch's device.
        batch: what is to be told from noise.
        generator: of the noise, its strength, and which captions are left out; on that device too.
    """
    latents, device = batch.latents, batch.latents.device
    left_out = torch.rand(len(latents), 1, generator=generator, device=device) < EMPTY_SHARE
    tokens = torch.where(left_out, tokenize([""]).to(device), batch.tokens)
    timestep = draw_timesteps(len(latents), generator)
    noise = torch.randn(latents.shape, generator=generator, device=device)
    signal_scale, noise_scale = (scale[timestep][:, None, None, None] for scale in signal_and_noise(device))
    noisy = signal_scale * latents + noise_scale * noise
    if device.type == "cuda":
        noisy = noisy.contiguous(memory_format=torch.channels_last)
    with fast_matrices(device):
        predicted = predict_noise(model.unet, noisy, timestep.float(), model.text_encoder(tokens))
    return (cell_weights(batch.coverage, timestep) * (predicted - noise).square()).mean()


def parameter_groups(model: DemoModel) -> list[dict[str, object]]:
    """Matrices with weight decay, vectors without, word embeddings at a lower rate."""
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    words = [value for name, value in named if "_embedding." in name]
    matrices = [value for name, value in named if "_embedding." not in name and value.ndim > 1]
    vectors = [value for name, value in named if "_embedding." not in name and value.ndim <= 1]
    return [
        {"params": matrices, "rate": 1.0, "weight_decay": 0.01},
        {"params": vectors, "rate": 1.0, "weight_decay": 0.0},
        {"params": words, "rate": EMBEDDING_RATE, "weight_decay": 0.0},
    ]


def starting_point(source: Path | None) -> tuple[Networks, str]:
    """The networks that a training begins with, and a name for their content: a checkpoint goes on only from the same.

    Args:
        source: a model file; None makes new networks, with the autoencoder that was trained last or else the shipped one.
    """
    if source:
        networks = read_weights(source)
        origin = f"the model {content_hash(networks.model.state_dict(), {})[:12]}"
    else:
        trained = cache_folder() / AUTOENCODER_RESULT
        autoencoder, preview = read_autoencoder(trained if trained.exists() else MODEL_FILE)
        torch.manual_seed(0)
        networks, origin = Networks(DemoModel(), autoencoder, preview, steps=0), "new networks"
    digest = content_hash(networks.autoencoder.state_dict(), {})[:12]
    return networks, f"{origin} with autoencoder {digest}"


def move(networks: Networks, device: torch.device) -> None:
    """Bring the networks to the device that trains, as it computes them fastest, and let the model be trained."""
    networks.model.to(device).train().requires_grad_(True)
    networks.model.text_encoder.text_projection.requires_grad_(False)  # SD1 uses nothing that passes it
    networks.autoencoder.to(device, memory_format=torch.channels_last)
    if device.type == "cuda":
        unet: Any = networks.model.unet  # torch's types do not know the argument
        unet.to(memory_format=torch.channels_last)


def train(training: Training, networks: Networks, options: argparse.Namespace, log: logging.Logger) -> None:
    """Train until the time is over.

    Args:
        training: of the networks' model.
        networks: on the device that trains.
        options: of the command.
        log: receives a line when it begins.
    """
    model, device = networks.model, networks.model.device
    if options.compile:
        model.unet.compile()
    shares = replace(TRAINING_SHARES, companion=options.companion_share)
    pool = options.pool or (16384 if device.type == "cuda" else 512)
    ring = LatentRing(Renderer(device), networks.autoencoder, pool, shares, seed=training.step)
    log.info("%d drawings are encoded after %.0f s", len(ring), training.spent)
    while training.done < 1.0:
        ring.renew(options.batch / options.visits)
        generator = torch.Generator(device).manual_seed(1_000_003 * training.step + 17)
        training.learn(training_loss(model, ring.batch(options.batch, generator), generator))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beginning = parser.add_mutually_exclusive_group()
    beginning.add_argument("--from", dest="source", type=Path, default=MODEL_FILE, help="go on from this model")
    beginning.add_argument("--from-scratch", action="store_true", help="begin with new networks")
    parser.add_argument(
        "--minutes", type=positive_float, default=8.5, help="of the training; loading and writing take a minute more"
    )
    parser.add_argument("--batch", type=positive_int, default=256)
    parser.add_argument("--learning-rate", type=positive_float, help=f"by default {RATE} at a batch of {RATE_BATCH}")
    parser.add_argument("--companion-share", type=share, default=TRAINING_SHARES.companion, help="pictures of pairs")
    parser.add_argument(
        "--pool", type=positive_int, help="drawings held at a time, by default 16384 on a GPU and 512 elsewhere"
    )
    parser.add_argument(
        "--visits", type=positive_float, default=8.0, help="how often a drawing is used before it is drawn anew"
    )
    parser.add_argument("--compile", action="store_true", help="compile the UNet: pays in runs of several minutes")
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    parser.add_argument("--output", type=Path, help=f"the trained model, by default {RESULT} in the cache folder")
    options = parser.parse_args()

    log, device, checkpoint = training_log("model"), training_device(), cache_folder() / CHECKPOINT
    networks, origin = starting_point(None if options.from_scratch else options.source)
    model, resumes = networks.model, checkpoint.exists() and not options.restart
    move(networks, device)
    if options.from_scratch and not resumes:
        pretrain_text(model.text_encoder, log)
    rate = options.learning_rate or RATE * (options.batch / RATE_BATCH) ** 0.5
    pace = Pace(60.0 * options.minutes, rate, warmup=300, decay_share=0.4, average_decay=0.9994)
    training = Training(model, parameter_groups(model), pace, checkpoint, origin, log)
    if resumes:
        training.resume()
    count = sum(parameter.numel() for parameter in model.parameters())
    log.info("%d parameters from %s, from step %d, on %s", count, origin, training.step, device)
    if training.done < 1.0:
        train(training, networks, options, log)
    else:
        told = "the %g minutes of %s are over, nothing is trained; more --minutes go on, --restart begins anew"
        log.info(told, options.minutes, checkpoint)
    training.finish()
    output = options.output or cache_folder() / RESULT
    write_weights(output, replace(networks, steps=networks.steps + training.step))
    log.info("wrote %s after %d steps", output, training.step)


if __name__ == "__main__":
    main()
