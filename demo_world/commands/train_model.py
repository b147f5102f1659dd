"""Train the demo model's UNet and text encoder on the encoded pictures. Resumes by default."""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from demo_world.denoiser import predict_noise, signal_and_noise, use_fast_group_norm
from demo_world.latents import LatentPool, load_autoencoder, open_latents
from demo_world.model import MODEL_CHECKPOINT, DemoModel, update_average
from demo_world.objective import cell_weights, draw_timesteps
from demo_world.precision import fast_matrices
from demo_world.pretrain_text import pretrain_text
from demo_world.schedule import warmup_stable_decay
from demo_world.storage import cache_folder, load_checkpoint, save_checkpoint, training_log
from demo_world.tokens import tokenize

SPELLING_SHARES = (0.8, 0.1, 0.1)  # of the three spellings in demo_world.scenes.caption_variants
EMPTY_SHARE = 0.1  # captions left out, for classifier-free guidance
EMBEDDING_RATE = 0.1  # of the learning rate: words keep the small scale that learned concept tokens expect


def training_loss(model: DemoModel, pool: LatentPool, batch: int, generator: torch.Generator) -> Tensor:
    """The weighted noise-prediction error of one random batch."""
    index = torch.randint(len(pool), (batch,), generator=generator)
    spelling = torch.multinomial(torch.tensor(SPELLING_SHARES), batch, replacement=True, generator=generator)
    tokens = pool.tokens[index, spelling]
    tokens[torch.rand(batch, generator=generator) < EMPTY_SHARE] = tokenize([""])[0]
    timestep = draw_timesteps(batch, generator)
    latents = pool.latents[index].float()
    noise = torch.randn(latents.shape, generator=generator)
    signal_scale, noise_scale = (scale[timestep][:, None, None, None] for scale in signal_and_noise())
    noisy = signal_scale * latents + noise_scale * noise
    with fast_matrices():
        predicted = predict_noise(model.unet, noisy, timestep.float(), model.text_encoder(tokens))
    return (cell_weights(pool.coverage[index], timestep) * (predicted - noise).square()).mean()


def parameter_groups(model: DemoModel, rate: float) -> list[dict[str, object]]:
    """Matrices with weight decay, vectors without, word embeddings at a lower rate."""
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    words = [value for name, value in named if "_embedding." in name]
    matrices = [value for name, value in named if "_embedding." not in name and value.ndim > 1]
    vectors = [value for name, value in named if "_embedding." not in name and value.ndim <= 1]
    return [
        {"params": matrices, "rate": rate, "weight_decay": 0.01},
        {"params": vectors, "rate": rate, "weight_decay": 0.0},
        {"params": words, "rate": rate * EMBEDDING_RATE, "weight_decay": 0.0},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5_900, help="length of the whole run; the last 30 %% anneal")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--checkpoint-seconds", type=float, default=180.0)
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    arguments = parser.parse_args()

    log, path = training_log("model"), cache_folder() / MODEL_CHECKPOINT
    autoencoder = load_autoencoder()
    pool = open_latents(autoencoder)
    torch.manual_seed(0)
    model = DemoModel()
    use_fast_group_norm(model.unet)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, arguments.learning_rate), lr=arguments.learning_rate, betas=(0.9, 0.99), fused=True
    )
    step = 0
    if path.exists() and not arguments.restart:
        state = load_checkpoint(path)
        model.load_state_dict(state["model"])
        average = state["average"]
        optimizer.load_state_dict(state["optimiser"])
        step = state["step"]
    else:
        pretrain_text(model.text_encoder, log)
        average = {name: value.clone() for name, value in model.state_dict().items()}

    def save() -> None:
        save_checkpoint(
            path, {"model": model.state_dict(), "average": average, "step": step, "optimiser": optimizer.state_dict()}
        )

    log.info("%d parameters, %d pictures, from step %d", sum(p.numel() for p in model.parameters()), len(pool), step)
    losses: list[float] = []
    saved_at = logged_at = time.monotonic()
    while step < arguments.steps:
        generator = torch.Generator().manual_seed(1_000_003 * step + 17)
        share = warmup_stable_decay(step, arguments.steps, warmup=200)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * share
        loss = training_loss(model, pool, arguments.batch, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        update_average(average, model, step)
        losses.append(float(loss.detach()))
        if step % 50 == 0:
            now = time.monotonic()
            log.info(
                "step %d loss %.4f rate %.1e %.2f s/step",
                step,
                sum(losses) / len(losses),
                arguments.learning_rate * share,
                (now - logged_at) / len(losses),
            )
            losses.clear()
            logged_at = now
        if time.monotonic() - saved_at > arguments.checkpoint_seconds:
            save()
            saved_at = time.monotonic()
            if len(pool) < 40_000:
                pool = open_latents(autoencoder)  # chunks encoded since then
    save()
    log.info("finished at step %d", step)


if __name__ == "__main__":
    main()
