"""The two trained networks of the demo model together, and the running average of their weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from demo_world.denoiser import build_unet
from demo_world.storage import cache_folder, load_checkpoint, require
from demo_world.text_encoder import TextEncoder

MODEL_CHECKPOINT = "model.pt"
MODEL_COMMAND = "python -m demo_world.commands.train_model"
AVERAGE_DECAY = 0.9993


class DemoModel(nn.Module):
    """UNet and text encoder, trained jointly."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = build_unet()
        self.text_encoder = TextEncoder()


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, step: int) -> None:
    """Move the running average of the weights towards `model`, faster in the first steps.

    Args:
        average: changed in place.
        model: the weights after `step` steps.
        step: counts from 1.
    """
    decay = min(AVERAGE_DECAY, (1.0 + step) / (10.0 + step))
    values = model.state_dict()
    torch._foreach_lerp_([average[name] for name in values], list(values.values()), 1.0 - decay)


def load_model(averaged: bool = True) -> tuple[DemoModel, int]:
    """The demo model as trained so far, frozen, and its number of steps.

    Args:
        averaged: take the running average of the weights, which samples better, or the last weights.
    """
    state = load_checkpoint(require(cache_folder() / MODEL_CHECKPOINT, MODEL_COMMAND))
    model = DemoModel()
    model.load_state_dict(state["average" if averaged else "model"])
    return model.eval().requires_grad_(False), state["step"]
