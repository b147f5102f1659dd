"""Train the CLIP of the demo world on the drawn pool. Resumes by default; --export writes the release file.

The pictures show all sprites, the custom subjects among them, and their captions say the class noun: a real CLIP knows
pandas too, and calls them bears where it is asked for a bear. To tell subjects apart, which captions do not ask for,
the picture features also learn to name the sprite, at a small weight; so do the patches, for a vision transformer learns
to see in far fewer pictures when each patch is told what it shows. Both heads are thrown away.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel

from demo_world.clip import CLIP_FILE, FEATURES, PREPROCESSOR, VISION, VISION_WIDTH, build_clip, save_clip
from demo_world.commands.options import positive_float, positive_int
from demo_world.contrastive import HIGHEST_SCALE, NameHeads, contrastive_loss, crop_views, near_miss, said
from demo_world.degradation import degrade
from demo_world.pool import Pool, drawings_hash, load_pool_checkpoint, open_pool
from demo_world.precision import fast_matrices, training_device
from demo_world.scenes import Scene, caption_variants
from demo_world.schedule import fall, rise
from demo_world.storage import cache_folder, save_checkpoint, training_log
from demo_world.tokens import END, known_ids, row_lookup, tokenize
from demo_world.truth import truth_of

CHECKPOINT = "clip.pt"
NEAR_MISSES = 2  # captions a picture, each with one trait changed
NAME_WEIGHT = 0.2  # of naming the sprite by the picture's features
PATCH_WEIGHT = 0.5  # of naming it in each patch
PATCHES = VISION["image_size"] // VISION["patch_size"]  # a side
SPELLING_SHARES = (0.6, 0.2, 0.2)  # of `caption_variants`
WARMUP_STEPS = 100
DECAY_SHARE = 0.5  # of the minutes
SAVE_SECONDS = 110.0
LOG_SECONDS = 20.0


@dataclass(frozen=True)
class Batch:
    """Pictures and texts of one step.

    Args:
        pictures: [B, 3, h, w] in 0 … 1.
        cover: of each patch by the main object and the companion, [B, 2, N].
        sprites: numbers of both in EXEMPLARS, [B, 2].
        rows: of the texts' tokens in the embedding, [T, K]: B captions, then their near misses.
        meaning: [T]; equal numbers mean the same.
    """

    pictures: Tensor
    cover: Tensor
    sprites: Tensor
    rows: Tensor
    meaning: Tensor


def text_rows(texts: list[str]) -> Tensor:
    """Rows of the token embedding, [B, K], cut after the last text's end."""
    tokens = tokenize(texts)
    longest = int((tokens == END).int().argmax(dim=1).max()) + 1
    return row_lookup()[tokens[:, :longest]]


def texts_of(scenes: list[Scene], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Captions of scenes and their near misses: rows [T, K] and meanings [T]."""
    every = scenes + [near_miss(scene, rng) for scene in scenes for _ in range(NEAR_MISSES)]
    spellings = rng.choice(len(SPELLING_SHARES), size=len(every), p=SPELLING_SHARES)
    texts = [caption_variants(scene)[spelling] for scene, spelling in zip(every, spellings)]
    numbers: dict[tuple[str | None, ...], int] = {}
    meaning = [numbers.setdefault(said(scene), len(numbers)) for scene in every]
    return text_rows(texts), torch.tensor(meaning)


def batch_at(step: int, pool: Pool, sprites: Tensor, count: int, device: torch.device) -> Batch:
    """The batch that belongs to a step.

    Args:
        step: counts from 0.
        pool: to choose from.
        sprites: of all its pictures, [N, 2].
        count: pictures.
        device: where it is needed.
    """
    rng = np.random.default_rng([5, step])
    index = torch.from_numpy(rng.integers(len(pool), size=count))
    rows, meaning = texts_of([pool.scenes[i] for i in index], rng)
    generator = torch.Generator(device).manual_seed(step)
    pictures, masks = (values[index].to(device).float() / 255 for values in (pool.pictures, pool.masks))
    pictures, cover = crop_views(pictures, masks, PATCHES, generator)
    pictures = degrade(pictures, generator)
    return Batch(pictures, cover, sprites[index].to(device), rows.to(device), meaning.to(device))


def loss_of(model: CLIPModel, heads: NameHeads, batch: Batch) -> dict[str, Tensor]:
    """The parts of the loss, by name, unweighted."""
    mean, deviation = (torch.tensor(PREPROCESSOR[key], device=model.device) for key in ("image_mean", "image_std"))
    pixels = (batch.pictures - mean[:, None, None]) / deviation[:, None, None]
    with fast_matrices(model.device):
        seen = model.vision_model(pixels)
        images = model.visual_projection(seen.pooler_output)
        texts = model.text_projection(model.text_model(batch.rows).pooler_output)
        patches = heads.patch_loss(seen.last_hidden_state[:, 1:], batch.cover, batch.sprites)
    images, texts = (F.normalize(features.float(), dim=-1) for features in (images, texts))
    return {
        "captions": contrastive_loss(images, texts, batch.meaning, model.logit_scale.exp()),
        "names": heads.feature_loss(images, batch.sprites[:, 0]),
        "patches": patches,
    }


def parameter_groups(model: CLIPModel, heads: NameHeads) -> list[dict[str, Any]]:
    """Matrices with weight decay; embeddings, vectors and the temperature without."""
    named = list(chain(model.named_parameters(), heads.named_parameters()))
    decays = [value.ndim > 1 and "embedding" not in name for name, value in named]
    return [
        {"params": [value for (_, value), decayed in zip(named, decays) if decayed], "weight_decay": 0.05},
        {"params": [value for (_, value), decayed in zip(named, decays) if not decayed], "weight_decay": 0.0},
    ]


class Training:
    """A CLIP in training, with what a checkpoint holds.

    Args:
        device: where it is trained.
        rate: the full learning rate.
        drawings: the `drawings_hash` of the pool that it learns from.
    """

    def __init__(self, device: torch.device, rate: float, drawings: str) -> None:
        torch.manual_seed(0)
        model: Any = build_clip(len(known_ids()))
        self.model: CLIPModel = model.to(device)
        self.model.set_attn_implementation("eager")  # on CPUs twice as fast backwards as torch's own
        self.heads = NameHeads(FEATURES, VISION_WIDTH).to(device)
        self.rate = rate
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.heads), lr=rate, betas=(0.9, 0.98), fused=True
        )
        self.step = 0
        self.seconds = 0.0
        self.drawings = drawings

    def learn(self, batch: Batch, share: float) -> dict[str, float]:
        """Take one step at a share of the full learning rate; returns the parts of the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * share
        parts = loss_of(self.model, self.heads, batch)
        loss = parts["captions"] + NAME_WEIGHT * parts["names"] + PATCH_WEIGHT * parts["patches"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(chain(self.model.parameters(), self.heads.parameters()), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=float(np.log(HIGHEST_SCALE)))
        self.step += 1
        return {name: float(part.detach()) for name, part in parts.items()}

    def state(self) -> dict[str, Any]:
        """All of it, as plain data."""
        return {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "drawings": self.drawings,
        }

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it has learned from other drawings.
        """
        state = load_pool_checkpoint(path, self.drawings)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=positive_float, default=60.0, help="of training, those before a resume among them"
    )
    parser.add_argument("--batch", type=positive_int, default=64)
    parser.add_argument("--learning-rate", type=positive_float, default=1e-3)
    parser.add_argument("--chunks", type=positive_int, help="of the pool; all without it")
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    parser.add_argument("--export", action="store_true", help="write the release file at the end")
    arguments = parser.parse_args()

    log, path = training_log("clip"), cache_folder() / CHECKPOINT
    device = training_device()
    training = Training(device, arguments.learning_rate, drawings_hash())
    if path.exists() and not arguments.restart:
        training.resume(path)
    log.info("%d parameters, from step %d", sum(p.numel() for p in training.model.parameters()), training.step)
    pool, budget = open_pool(arguments.chunks), 60 * arguments.minutes
    truth = truth_of(pool.scenes)
    sprites = torch.stack([truth.exemplar, truth.companion], dim=1)
    saved = logged = last = time.monotonic()
    while training.seconds < budget:
        share = rise(training.step, WARMUP_STEPS) * fall(training.seconds / budget, DECAY_SHARE)
        parts = training.learn(batch_at(training.step, pool, sprites, arguments.batch, device), share)
        now = time.monotonic()
        training.seconds, last = training.seconds + now - last, now
        if now - logged > LOG_SECONDS:
            said_parts = ", ".join(f"{name} {part:.3f}" for name, part in parts.items())
            scale = float(training.model.logit_scale.detach().exp())
            log.info("minute %.1f, step %d: %s, scale %.1f", training.seconds / 60, training.step, said_parts, scale)
            logged = now
        if now - saved > SAVE_SECONDS:
            save_checkpoint(path, training.state())
            saved = now
    save_checkpoint(path, training.state())
    if arguments.export:
        save_clip(training.model)
        log.info("wrote %s, %.1f MB", CLIP_FILE, CLIP_FILE.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
