"""Warm start of the text encoder: read the scene off the end-of-text token, before any picture is seen."""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo_world.scenes import caption, sample_scene
from demo_world.text_encoder import WIDTH, TextEncoder
from demo_world.tokens import END, tokenize
from demo_world.truth import truth_of
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES

LABELS: dict[str, int] = {  # of demo_world.truth.Truth, and how many values each has
    "noun": len(NOUNS),
    "second_noun": 1 + len(NOUNS),
    "context": len(CONTEXTS),
    "style": len(STYLES),
    "colour": len(COLOURS),
}


def pretrain_text(encoder: TextEncoder, log: logging.Logger, steps: int = 260, batch: int = 256) -> float:
    """Train `encoder` in place to tell all labels of a caption at its first end token, as CLIP's pooled output does.

    Args:
        encoder: changed in place, on any device.
        log: receives a line every 100 steps.
        steps: training steps.
        batch: captions per step.

    Returns:
        Share of labels told correctly in the last step, 0 ... 1.
    """
    device, rng = encoder.lookup.device, np.random.default_rng(31)
    heads = nn.ModuleDict({name: nn.Linear(WIDTH, size) for name, size in LABELS.items()}).to(device)
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
        tokens, truth = tokenize([caption(scene) for scene in scenes]), truth_of(scenes)
        targets = {name: getattr(truth, name).to(device) for name in LABELS}
        pooled = _at_first_end(encoder, tokens)
        guesses = {name: heads[name](pooled) for name in LABELS}
        loss = torch.stack([F.cross_entropy(guesses[name], targets[name]) for name in LABELS]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 100 == 0 or step == steps:
            right = float(
                np.mean([float((guesses[name].argmax(1) == targets[name]).float().mean()) for name in LABELS])
            )
            log.info("text warm start: step %d, loss %.3f, labels right %.3f", step, loss.item(), right)
    return right


def _at_first_end(encoder: TextEncoder, tokens: Tensor) -> Tensor:
    """Encodings of captions [B, LENGTH] at their first end token, [B, WIDTH]."""
    ends = (tokens == END).int().argmax(dim=1)
    encoded = encoder(tokens[:, : int(ends.max()) + 1].to(encoder.lookup.device))
    rows: Tensor = encoded[torch.arange(len(tokens)), ends]
    return rows
