"""The folder of one run: checkpoints, the best evaluated concept and the finished one. Files appear whole or not at all.

``step_000100.safetensors`` is a concept like any other; ``step_000100.resume`` beside it, written first, is what
the run needs to go on from there. ``finished.resume`` is the same after the last step: a run with more steps goes on from it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from ..concept.concept import Concept
from ..concept.file import load_concept, save_concept
from ..errors import UserInputError
from ..files import is_abandoned, reason_of
from ..log import LOG
from ..tensor_file import read_metadata
from .state import FORMAT, TrainingState, load_state, save_state

FINISHED = "finished.safetensors"
FINISHED_STATE = "finished.resume"
BEST = "best.safetensors"
STATES_KEPT = 2
"""The newest state, from which a run goes on, and the one before in case that is damaged."""
MOST_STEPS = sys.maxsize
_CHECKPOINT = re.compile(r"step_(\d{6})\.safetensors")


@dataclass(frozen=True)
class StoredState:
    """Where a state is, and how many steps it is after."""

    path: Path
    steps: int


class TrainingFolder:
    """Keep what a run has reached.

    Several processes may train the same run in one folder: each deletes finished files only, and all of them write the same.

    Args:
        path: a folder of this run's own; made when something is written.
        key: of the run; files of another key are not used.
        path_key: see ``state.save_state``; "" where no other run takes the same steps.
        roots: folders in whose subfolders other runs are, whose states may be gone on from; none uses no other run.
        warn: is told of everything that could not be kept or read.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        path_key: str = "",
        roots: Sequence[Path] = (),
        warn: Callable[[str], None] = LOG.warning,
    ) -> None:
        self.path = path
        self.key = key
        self.path_key = path_key
        self.warn = warn
        self.roots = roots

    def save_checkpoint(self, concept: Concept, state: TrainingState) -> Path:
        """Write the concept of a step and the state after it; return the concept's path."""
        path = self._of_step(concept.info.steps)
        save_state(state, path.with_suffix(".resume"), self.key, self.path_key)
        try:
            save_concept(concept, path)
        except BaseException:
            # of no use without its concept, and the disk may be full
            path.with_suffix(".resume").unlink(missing_ok=True)
            raise
        return path

    def save_step(self, concept: Concept) -> None:
        """Write the concept of a step, without a state."""
        save_concept(concept, self._of_step(concept.info.steps))

    def save_best(self, concept: Concept) -> None:
        """Write the concept with the lowest evaluation loss so far."""
        save_concept(concept, self.path / BEST)

    def size_of_best(self) -> int:
        """Return how many bytes the best concept so far takes; 0 without one."""
        path = self.path / BEST
        return path.stat().st_size if path.is_file() else 0

    def finish(self, concept: Concept, state: TrainingState | None = None) -> list[Path]:
        """Write the finished concept exactly, and drop what was needed to resume.

        Args:
            concept: of the last step.
            state: after it, from which a run with more steps goes on; None keeps none.

        Returns:
            The states of shorter runs that were deleted because this one takes their place; their concepts stay.
        """
        save_concept(concept, self.path / FINISHED, "float32")
        superseded: list[Path] = []
        if state is not None:
            try:
                save_state(state, self.path / FINISHED_STATE, self.key, self.path_key)
                superseded = self._drop_superseded(concept.info.steps)
            except (OSError, SafetensorError) as error:
                self.warn(
                    f"The state of the finished run could not be written to {self.path}: {reason_of(error)}. "
                    "A run with more steps would begin anew."
                )
        self.drop_states(keep_finished=state is not None)
        return superseded

    def drop_states(self, keep_finished: bool = True) -> None:
        """Delete what only an unfinished run needs; concepts stay. What cannot be deleted is only warned about.

        Args:
            keep_finished: leave the state after the last step, from which a run with more steps goes on.
        """
        try:
            for file in self.path.glob("*.resume"):
                if not (keep_finished and file.name == FINISHED_STATE):
                    file.unlink(missing_ok=True)
            self._delete_abandoned()
        except OSError as error:
            self.warn(
                f"States of a finished run are left in {self.path}: {reason_of(error)}. Delete its .resume files yourself."
            )

    def checkpoints(self) -> dict[int, Path]:
        """Return the concept of each checkpoint by its step, ascending."""
        found = {
            int(match[1]): file for file in self.path.glob("step_*") if (match := _CHECKPOINT.fullmatch(file.name))
        }
        return dict(sorted(found.items()))

    def concept_of(self, step: int) -> Concept | None:
        """Return the concept of a step on the way, from its checkpoint or as the best one; None when neither is there."""
        for path in (self._of_step(step), self.path / BEST):
            if path.is_file():
                concept = self._read(path)
                if concept is not None and concept.info.steps == step:
                    return concept
        return None

    def missing(self, steps: Sequence[int], reached: int) -> list[int]:
        """Return which of the steps before ``reached`` have no concept here, so that only training anew would give it."""
        kept = self.checkpoints()
        return [step for step in steps if step < reached and step not in kept]

    def states(self, most_steps: int) -> list[StoredState]:
        """Return the states that a run can go on from, this folder's and other runs', those with the most steps first.

        Args:
            most_steps: of the run.
        """
        own = [
            StoredState(resume, step)
            for step, file in self.checkpoints().items()
            if (resume := file.with_suffix(".resume")).is_file()
        ]
        own += [state for state in _states_in(self.path, "key", self.key) if state.path.name == FINISHED_STATE]
        found = [state for state in own if state.steps <= most_steps] + self._other_states(most_steps)
        return sorted(found, key=lambda state: (state.steps, state.path.parent == self.path), reverse=True)

    def latest_state(self, most_steps: int = MOST_STEPS) -> tuple[StoredState, TrainingState] | None:
        """Return the first of ``states`` that can be read, or None; damaged ones are passed over with a warning."""
        for stored in self.states(most_steps):
            try:
                return stored, load_state(stored.path, self.key, self.path_key)
            except UserInputError as error:
                self.warn(f"{error} Going back to the checkpoint before it.")
        return None

    def finished(self) -> Concept | None:
        """Return the finished concept, or None when there is none that can be read."""
        path = self.path / FINISHED
        if not path.is_file():
            return None
        try:
            concept = load_concept(path)
        except UserInputError as error:
            self.warn(f"{error} Training again.")
            return None
        if concept.info.training_key != self.key:
            return None
        if not concept.info.history.get("loss"):
            self.warn(f"{path.name} has lost the loss of its steps, which a run gives back. Training again.")
            return None
        return concept

    def prune(self, keep: int, always: Sequence[int] = ()) -> None:
        """Delete all but the newest ``keep`` checkpoints; of those in ``always`` the concept stays. States are several times as large: two stay."""
        found = self.checkpoints()
        newest = [file.stem for file in found.values()][-keep:] if keep else []
        resumable = newest[-STATES_KEPT:]
        for step, file in found.items():
            if file.stem not in newest and step not in always:
                file.unlink(missing_ok=True)
        for file in self.path.glob("*.resume"):
            if file.stem not in resumable and file.name != FINISHED_STATE:
                file.unlink(missing_ok=True)
        self._delete_abandoned()

    def clear(self) -> None:
        """Delete every file of the run."""
        for pattern in ("step_*.safetensors", BEST, FINISHED, "*.resume"):
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)
        self._delete_abandoned()

    def _of_step(self, step: int) -> Path:
        return self.path / f"step_{step:06d}.safetensors"

    def _read(self, path: Path) -> Concept | None:
        try:
            return load_concept(path)
        except UserInputError as error:
            self.warn(str(error))
            return None

    def _other_states(self, most_steps: int) -> list[StoredState]:
        """Return the states of other runs that take the same steps, with so many steps at most."""
        if not self.path_key:
            return []
        folders = [folder for root in self.roots for folder in sorted(root.glob("*")) if folder != self.path]
        found = [state for folder in folders for state in _states_in(folder, "path_key", self.path_key)]
        return [state for state in found if state.steps <= most_steps]

    def _drop_superseded(self, steps: int) -> list[Path]:
        """Delete the last states of finished runs that take the same steps and end sooner, and return them."""
        deleted = []
        for state in self._other_states(steps):
            if state.path.name == FINISHED_STATE:
                try:
                    state.path.unlink()
                except OSError:  # it serves another process, or is gone already
                    continue
                deleted.append(state.path)
        return deleted

    def _delete_abandoned(self) -> None:
        """Delete files whose writing was cut off by a kill; what another process is writing stays."""
        for file in self.path.glob(".*.tmp"):
            if is_abandoned(file):
                file.unlink(missing_ok=True)


def _states_in(folder: Path, name: str, value: str) -> list[StoredState]:
    """Return the states in a folder whose metadata have a value, and say how many steps they are after; only headers are read."""
    found = []
    for path in sorted(folder.glob("*.resume")):
        try:
            metadata = read_metadata(path)
        except UserInputError:  # damaged, or deleted meanwhile
            continue
        if metadata.get("format") == FORMAT and metadata.get(name) == value and metadata.get("steps", "").isdecimal():
            found.append(StoredState(path, int(metadata["steps"])))
    return found


def name_of_run(folder: Path) -> str:
    """Return what messages call the folder of a run: its name below that of its root, as Load Concept lists it."""
    return f"{folder.parent.name}/{folder.name}"
