"""Every field of the training settings with another value than its default."""

from __future__ import annotations

from typing import Any

from comfyui_dci.dci_core.concept.scheme import ICOScheme

OTHER_SETTINGS: dict[str, Any] = {
    "scheme": ICOScheme(2, 2, 2),
    "steps": 4,
    "batch_size": 1,
    "learning_rate": 2e-3,
    "context_learning_rate": 2e-2,
    "flip": False,
    "seed": 6,
    "token_learning_rate": 1e-4,
    "mode": "key_value",
    "rank": 2,
    "optimizer": "adamw_8bit",
    "schedule": "cosine",
    "warmup_steps": 1,
    "accumulation_steps": 2,
    "max_gradient_norm": 1.0,
    "min_snr_gamma": 5.0,
    "noise_offset": 0.1,
    "ema_decay": 0.9,
    "prior_loss_weight": 0.5,
    "precision": "bf16",
    "gradient_checkpointing": True,
    "evaluate_every": 3,
    "stop_after": 1,
}
