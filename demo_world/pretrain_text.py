"""Warm start of the text encoder: read the scene off the end-of-text token, before any picture is seen."""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from demo_world.scenes import LABEL_SIZES, caption, labels, sample_scene
from demo_world.text_encoder import WIDTH, TextEncoder
from demo_world.tokens import END, tokenize


def pretrain_text(encoder: TextEncoder, log: logging.Logger, steps: int = 200, batch: int = 128) -> float:
    """Train `encoder` in place to tell all labels of a caption at its first end token, as CLIP's pooled output does.

    Args:
        encoder: changed in place.
        log: receives a line every 100 steps.
        steps: training steps.
        batch: captions per step.

    Returns:
        Share of labels told correctly in the last step.
    """
    heads = nn.ModuleList(nn.Linear(WIDTH, size) for size in LABEL_SIZES.values())
    rng = np.random.default_rng(31)
    embeddings = list(encoder.text_model.embeddings.parameters())
    layers = [p for name, p in encoder.named_parameters() if "embeddings" not in name and p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [*layers, *heads.parameters()], "lr": 1e-3},
            {"params": embeddings, "lr": 1e-4},
        ]
    )
    right = 0.0
    for step in range(1, steps + 1):
        scenes = [sample_scene(rng) for _ in range(batch)]
        tokens = tokenize([caption(scene) for scene in scenes])
        targets = torch.tensor([labels(scene) for scene in scenes])  # [batch, 5]
        ends = (tokens == END).int().argmax(dim=1)
        pooled = encoder(tokens[:, : int(ends.max()) + 1])[torch.arange(batch), ends]  # [batch, WIDTH]
        guesses = [head(pooled) for head in heads]
        loss = torch.stack([F.cross_entropy(guess, target) for guess, target in zip(guesses, targets.T, strict=True)])
        optimizer.zero_grad(set_to_none=True)
        loss.mean().backward()
        optimizer.step()
        right = float(
            np.mean([float((g.argmax(1) == t).float().mean()) for g, t in zip(guesses, targets.T, strict=True)])
        )
        if step % 100 == 0:
            log.info("text warm start: step %d loss %.3f labels right %.3f", step, float(loss.mean()), right)
    return right
