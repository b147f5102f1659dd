"""Who is told how a training goes."""

from __future__ import annotations

from torch import Tensor

from ....dci_core.log import LOG


class TrainingObserver:
    """Hear of a training while it runs; a subclass says what of it matters. Whatever it raises ends the run."""

    def announce(self, text: str) -> None:
        """Hear how a run will be, before its first step, and in the end what became of its files."""
        LOG.info(text)

    def warn(self, text: str) -> None:
        """Hear of what could not be kept, read or drawn, while the run goes on."""
        LOG.warning(text)

    def on_step(self, step: int, loss: float) -> None:
        """Hear of a step that was taken, counted from 1, and its loss."""

    def on_preview(self, step: int, picture: Tensor) -> None:
        """Hear of a picture [height, width, 3], values 0 … 1, drawn after a step; pictures change nothing that is learned."""

    def tell(self, text: str) -> None:
        """Hear what a finished run says of itself; the log has it in any case."""
