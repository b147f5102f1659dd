"""The folder of one run: checkpoints, the best evaluated concept and the finished one. Files appear whole or not at all.

``step_000100.safetensors`` is a concept like any other; ``step_000100.resume`` beside it, written first, is what
the run needs to go on from there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..concept.concept import Concept
from ..concept.file import load_concept, save_concept
from ..errors import UserInputError
from ..log import LOG
from .state import TrainingState, load_state, save_state

FINISHED = "finished.safetensors"
BEST = "best.safetensors"
UNFINISHED = ("*.resume", ".*.tmp")
"""States, which are several times as large as a concept, and files whose writing was cut off by a kill."""
STATES_KEPT = 2
"""The newest state, from which a run goes on, and the one before in case that is damaged."""
_CHECKPOINT = re.compile(r"step_(\d{6})\.safetensors")


class TrainingFolder:
    """Keep what a run has reached.

    Args:
        path: a folder of this run's own; made when something is written.
        key: of the run; files of another key are not used.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def save_checkpoint(self, concept: Concept, state: TrainingState) -> Path:
        """Write the concept of a step and the state after it; return the concept's path."""
        path = self.path / f"step_{concept.info.steps:06d}.safetensors"
        save_state(state, path.with_suffix(".resume"), self.key)
        try:
            save_concept(concept, path)
        except BaseException:
            path.with_suffix(".resume").unlink()  # of no use without its concept, and the disk may be full
            raise
        return path

    def save_best(self, concept: Concept) -> None:
        """Write the concept with the lowest evaluation loss so far."""
        save_concept(concept, self.path / BEST)

    def finish(self, concept: Concept) -> None:
        """Write the finished concept exactly, and drop what was needed to resume."""
        save_concept(concept, self.path / FINISHED, "float32")
        self.drop_states()

    def drop_states(self) -> None:
        """Delete what only an unfinished run needs; concepts stay. What cannot be deleted is only warned about."""
        try:
            self._delete(*UNFINISHED)
        except OSError as error:
            LOG.warning(
                "States of a finished run are left in %s: %s. Delete its .resume files yourself.", self.path, error
            )

    def checkpoints(self) -> dict[int, Path]:
        """Return the concept of each checkpoint by its step, ascending."""
        found = {
            int(match[1]): file for file in self.path.glob("step_*") if (match := _CHECKPOINT.fullmatch(file.name))
        }
        return dict(sorted(found.items()))

    def missing(self, steps: Sequence[int], reached: int) -> list[int]:
        """Return which of the steps before ``reached`` have no concept here, so that only training anew would give it."""
        kept = self.checkpoints()
        return [step for step in steps if step < reached and step not in kept]

    def latest_state(self) -> TrainingState | None:
        """Return the newest state that can be read, or None; damaged ones are passed over with a warning."""
        for file in reversed(self.checkpoints().values()):
            resume = file.with_suffix(".resume")
            if resume.is_file():
                try:
                    return load_state(resume, self.key)
                except UserInputError as error:
                    LOG.warning("%s Going back to the checkpoint before it.", error)
        return None

    def finished(self) -> Concept | None:
        """Return the finished concept, or None when there is none that can be read."""
        path = self.path / FINISHED
        if not path.is_file():
            return None
        try:
            concept = load_concept(path)
        except UserInputError as error:
            LOG.warning("%s Training again.", error)
            return None
        return concept if concept.info.training_key == self.key else None

    def prune(self, keep: int, always: Sequence[int] = ()) -> None:
        """Delete all but the newest ``keep`` checkpoints; of those in ``always`` the concept stays. States are several times as large: two stay."""
        found = self.checkpoints()
        newest = [file.stem for file in found.values()][-keep:] if keep else []
        resumable = newest[-STATES_KEPT:]
        for step, file in found.items():
            if file.stem not in newest and step not in always:
                file.unlink()
        for pattern in UNFINISHED:
            for file in self.path.glob(pattern):
                if file.stem not in resumable:
                    file.unlink()

    def clear(self) -> None:
        """Delete every file of the run."""
        self._delete("step_*.safetensors", BEST, FINISHED, *UNFINISHED)

    def _delete(self, *patterns: str) -> None:
        for pattern in patterns:
            for file in self.path.glob(pattern):
                file.unlink()
