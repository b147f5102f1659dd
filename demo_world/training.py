"""A training that stops when its time is over and can go on later: steps, running average, checkpoints, log."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from demo_world.schedule import fall, rise
from demo_world.storage import load_checkpoint, save_checkpoint

LOG_SECONDS = 20.0
CHECKPOINT_SECONDS = 170.0


@dataclass(frozen=True)
class Pace:
    """How a training goes over time.

    Args:
        seconds: its time, over all sessions.
        rate: the full learning rate, above 0.
        warmup: steps in which the rate rises, 1 or more.
        decay_share: of the time, at the end, in which the rate falls; above 0.
        average_decay: of the running average, 0 … 1; higher averages over more steps.
    """

    seconds: float
    rate: float
    warmup: int
    decay_share: float
    average_decay: float


class Training:
    """Trains a network in place; its clock runs from here on.

    Args:
        model: the network, on the device that trains; its weights begin the running average.
        groups: what is trained, as parameter groups of AdamW; "rate" is the group's share of the learning rate.
        pace: rates and time.
        checkpoint: file that it is written to every CHECKPOINT_SECONDS and at the end.
        origin: what it began with and learns from: a checkpoint of another origin is refused.
        log: receives a line every LOG_SECONDS; in between losses stay on their device, so that it need not wait.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: list[dict[str, object]],
        pace: Pace,
        checkpoint: Path,
        origin: str,
        log: logging.Logger,
    ) -> None:
        self.step = 0
        self._model, self._pace, self._checkpoint, self._origin, self._log = model, pace, checkpoint, origin, log
        self._average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._optimizer = torch.optim.AdamW(groups, lr=pace.rate, betas=(0.9, 0.99), fused=True)
        self._losses: list[Tensor] = []
        self._began = self._saved = self._told = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds until now, those of earlier sessions included."""
        return time.monotonic() - self._began

    @property
    def done(self) -> float:
        """Share of the time that is over, 0 or more; 1 is the end."""
        return self.spent / self._pace.seconds

    def resume(self) -> None:
        """Go on from the checkpoint.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is of another training.
        """
        state = load_checkpoint(self._checkpoint)
        if state.get("origin") != self._origin:
            raise ValueError(
                f"{self._checkpoint} is of a training from {state.get('origin')}, not from {self._origin}. "
                "Begin with the same, or start anew with --restart."
            )
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        for name, value in state["average"].items():
            self._average[name].copy_(value)
        self.step = state["step"]
        self._began -= state["spent"]

    def learn(self, loss: Tensor) -> None:
        """Take a step down the gradient of a loss."""
        share = rise(self.step, self._pace.warmup) * fall(self.done, self._pace.decay_share)
        for group in self._optimizer.param_groups:
            group["lr"] = self._pace.rate * share * group["rate"]
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        update_average(self._average, self._model, self.step, self._pace.average_decay)
        self._losses.append(loss.detach())
        self._tell(self._pace.rate * share)
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self._save()

    def finish(self) -> None:
        """Write a checkpoint, and give the network the running average of its weights."""
        self._save()
        self._model.load_state_dict(self._average)

    def _tell(self, rate: float) -> None:
        seconds = time.monotonic() - self._told
        if seconds > LOG_SECONDS or self.done >= 1.0:
            mean, speed = float(torch.stack(self._losses).mean()), seconds / len(self._losses)
            facts = (self.step, mean, rate, speed, 100.0 * self.done)
            self._log.info("step %d: loss %.4f, rate %.1e, %.3f s a step, %.0f %% of the time", *facts)
            self._losses.clear()
            self._told = time.monotonic()

    def _save(self) -> None:
        state = {
            "model": self._model.state_dict(),
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
            "origin": self._origin,
            "step": self.step,
            "spent": self.spent,
        }
        save_checkpoint(self._checkpoint, state)
        self._saved = time.monotonic()


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, step: int, decay: float) -> None:
    """Move the running average of the weights towards `model`, faster in the first steps.

    Args:
        average: changed in place.
        model: the weights after `step` steps.
        step: counts from 1.
        decay: of the average after many steps, 0 … 1.
    """
    values = model.state_dict()
    share = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
    torch._foreach_lerp_([average[name] for name in values], list(values.values()), share)
