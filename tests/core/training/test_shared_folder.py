"""Two processes that train the same run in one folder: neither takes files from the other, and both end right."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from comfyui_dci.dci_core import files
from comfyui_dci.dci_core.training.concept_training import ConceptTraining
from comfyui_dci.dci_core.training.folder import TrainingFolder
from comfyui_dci.dci_core.training.run import CheckpointPlan, run_training
from stored_runs import KEY, assert_same_run, concept_of, quiet, run, train


def half_written(folder: TrainingFolder, process: int) -> Path:
    """Return a file that a process of this machine has begun to write."""
    folder.path.mkdir(parents=True, exist_ok=True)
    file = folder.path / f".dci-{files._machine()}-{process}-{uuid.uuid4().hex}.tmp"
    file.write_bytes(b"half")
    return file


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    "clean",
    [
        lambda folder, concept: folder.prune(1),
        lambda folder, concept: folder.drop_states(),
        lambda folder, concept: folder.finish(concept),
        lambda folder, concept: folder.clear(),
    ],
    ids=["prune", "drop_states", "finish", "clear"],
)
def test_cleaning_deletes_the_temporary_files_of_dead_processes_only(
    folder: TrainingFolder, clean: Callable[..., None]
) -> None:
    theirs, abandoned = half_written(folder, os.getppid()), half_written(folder, dead_process())
    clean(folder, concept_of(run()))
    assert theirs.is_file() and not abandoned.exists()


def test_a_run_that_another_process_finishes_meanwhile_ends_right(folder: TrainingFolder) -> None:
    whole = run()
    run_training(whole, quiet)
    other: list[ConceptTraining] = []

    def another_server(step: int, loss: float) -> None:
        if step == 3:
            other.append(train(folder))
            folder.finish(concept_of(other[0]))

    mine = train(folder, another_server)
    assert_same_run(whole, mine)
    assert_same_run(whole, other[0])
    folder.finish(concept_of(mine))
    found = folder.finished()
    assert found is not None and found.info.history["loss"] == whole.losses
    assert not list(folder.path.glob("*.resume"))


@pytest.mark.parametrize("attempt", range(3))
def test_runs_at_the_same_time_in_one_folder_both_end_right(folder: TrainingFolder, attempt: int) -> None:
    whole, together, told = run(), Barrier(2), []
    run_training(whole, quiet)

    def server(number: int) -> ConceptTraining:
        mine, training = TrainingFolder(folder.path, KEY, warn=told.append), run()
        together.wait()
        run_training(training, quiet, mine, CheckpointPlan(every=1, keep=1), concept_of)
        mine.finish(concept_of(training))
        return training

    with ThreadPoolExecutor(2) as servers:
        ended = list(servers.map(server, range(2)))
    for training in ended:
        assert_same_run(whole, training)
    found = folder.finished()
    assert found is not None and found.info.history["loss"] == whole.losses
    assert not [text for text in told if "Going back" not in text]  # a state may be deleted while it is read
    assert not list(folder.path.glob(".*"))
