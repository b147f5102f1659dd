"""Tell the user how training goes, and let the user stop it."""

from __future__ import annotations

import time

import comfy.model_management
import comfy.utils

SECONDS_BETWEEN_TEXTS = 0.25


class TrainingProgress:
    """Progress bar, loss text on the node, and the host's cancel button.

    Args:
        steps: of the whole run.
        node_id: the node that shows the text, or None.
    """

    def __init__(self, steps: int, node_id: str | None) -> None:
        self._steps = steps
        self._node_id = node_id
        self._bar = comfy.utils.ProgressBar(steps)
        self._told_at = 0.0
        self._recent: list[float] = []

    def on_step(self, step: int, loss: float) -> None:
        """Report one step; raises the host's interrupt when the user has cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(step, self._steps)
        self._recent = [*self._recent[-19:], loss]
        now = time.monotonic()
        if self._node_id is not None and (now - self._told_at >= SECONDS_BETWEEN_TEXTS or step == self._steps):
            self._told_at = now
            mean = sum(self._recent) / len(self._recent)
            _send_text(
                f"step {step} of {self._steps}, loss {loss:.4f} (mean of last {len(self._recent)}: {mean:.4f})",
                self._node_id,
            )


def _send_text(text: str, node_id: str) -> None:
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_progress_text(text, node_id)
