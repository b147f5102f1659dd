"""Tell the user how training goes, and let the user stop it."""

from __future__ import annotations

import time

import comfy.model_management
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ....dci_core.log import LOG
from ..node_text import send_text
from .observer import TrainingObserver

SECONDS_BETWEEN_TEXTS = 0.25
SECONDS_BETWEEN_LINES = 10.0
"""Of the log, which those see who have no graph before them."""
RECENT_STEPS = 20  # that mean loss and time left are told from
LARGEST_PREVIEW_PX = 512
WARNINGS_SHOWN = 8


class TrainingProgress(TrainingObserver):
    """Progress bar, loss text on the node, and the host's cancel button.

    Args:
        steps: of the whole run.
        node_id: the node that shows the text, or None.
    """

    def __init__(self, steps: int, node_id: str | None) -> None:
        self._steps = steps
        self._node_id = node_id
        self._heading = ""
        self._warnings: list[str] = []
        self._text = ""
        self._bar = comfy.utils.ProgressBar(steps)
        self._told_at = 0.0
        self._logged_at = time.monotonic()
        self._recent: list[float] = []
        self._times: list[tuple[int, float]] = []
        if _on_gpu():
            torch.cuda.reset_peak_memory_stats()

    def announce(self, text: str) -> None:
        """Show a text above everything that the node says from now on, below what was announced before; the log has it too."""
        super().announce(text)
        self._heading += f"{text}\n"
        self.tell(self._text)

    def warn(self, text: str) -> None:
        """Show a warning below what was announced, from now on; the log has it too."""
        super().warn(text)
        self._warnings.append(text)
        self.tell(self._text)

    def on_step(self, step: int, loss: float) -> None:
        """Report one step; raises the host's interrupt when the user has cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(step, self._steps)
        self._recent = [*self._recent, loss][-RECENT_STEPS:]
        now = time.monotonic()
        self._times = [*self._times, (step, now)][-RECENT_STEPS:]
        if self._node_id is not None and (now - self._told_at >= SECONDS_BETWEEN_TEXTS or step == self._steps):
            self._told_at = now
            self.tell(self._text_of(step, loss))
        if now - self._logged_at >= SECONDS_BETWEEN_LINES:
            self._logged_at = now
            LOG.info("DCI: %s", self._text_of(step, loss))

    def tell(self, text: str) -> None:
        """Show a text on the node in place of the steps."""
        self._text = text
        if self._node_id is not None:
            earlier = len(self._warnings) - WARNINGS_SHOWN
            more = [f"{earlier} earlier warnings are in the log."] if earlier > 0 else []
            below = "\n".join([*more, *self._warnings[-WARNINGS_SHOWN:], text])
            send_text((self._heading + below).rstrip("\n"), self._node_id)

    def on_preview(self, step: int, picture: Tensor) -> None:
        """Show a picture [height, width, 3] on the node."""
        image = Image.fromarray((picture.cpu().numpy() * 255.0).round().astype("uint8"))
        self._bar.update_absolute(step, self._steps, ("JPEG", image, LARGEST_PREVIEW_PX))

    def _text_of(self, step: int, loss: float) -> str:
        mean = sum(self._recent) / len(self._recent)
        text = f"step {step} of {self._steps}, loss {loss:.4f} (mean of last {len(self._recent)}: {mean:.4f})"
        (first, then), (last, now) = self._times[0], self._times[-1]
        if last > first and step < self._steps:
            text += f", {_duration((self._steps - step) * (now - then) / (last - first))} left"
        return text + _memory()


class DrawingProgress:
    """Text on the node, and the host's cancel button, for pictures that are found or drawn, those found coming first.

    Args:
        count: how many there will be.
        what: the name of one.
        node_id: the node that shows the text, or None.
    """

    def __init__(self, count: int, what: str, node_id: str | None) -> None:
        self._count, self._what, self._node_id = count, what, node_id
        self._drawn = 0
        self._started = time.monotonic()
        self._first_drawn = 0.0

    def on_picture(self, number: int, drawn: int) -> None:
        """Report that so many are there, so many of them drawn now; raises the host's interrupt when the user has cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        if drawn == 0:
            self._started = now
        elif drawn == 1:
            self._first_drawn = now
        self._drawn = drawn
        text = f"{self._what} {number} of {self._count}"
        if drawn > 1 and number < self._count:
            text += f", {_duration((self._count - number) * (now - self._first_drawn) / (drawn - 1))} left"
        self._send(text)

    def on_end(self) -> None:
        """Say, on the node and in the log, how many were found and what drawing the others has cost."""
        text = f"{self._count} {self._what}{'s' * (self._count > 1)}, "
        if self._drawn:
            spent = _duration(time.monotonic() - self._started)
            text += f"{self._count - self._drawn} found, {self._drawn} drawn in {spent}; the next run finds them all"
        else:
            text += "all found"
        LOG.info("%s.", text)
        self._send(text)

    def _send(self, text: str) -> None:
        if self._node_id is not None:
            send_text(text, self._node_id)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _memory() -> str:
    """Return the run's peak of the GPU's memory, where there is one."""
    return f", peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if _on_gpu() else ""


def _on_gpu() -> bool:
    return torch.cuda.is_available() and comfy.model_management.get_torch_device().type == "cuda"
