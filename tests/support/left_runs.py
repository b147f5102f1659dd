"""Runs as trainings leave them on the disk, small and at chosen times."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from comfyui_dci.dci_core.concept.file import save_concept
from concept_files import small_concept

KEYS = {"car": "c" * 64, "cat": "a" * 64, "dog": "d" * 64}


def leave_run(root: Path, subject: str, changed: float, *steps: int, finished: int = 0, states: bool = True) -> Path:
    """Leave a run: checkpoints of some steps with their states, and the finished concept after the last.

    Args:
        root: of all runs.
        subject: one of ``KEYS``.
        changed: when everything was written, seconds since 1970.
        steps: of the checkpoints.
        finished: steps of the finished concept; 0 leaves none.
        states: whether the states are still there.
    """
    folder = root / f"{subject}-{KEYS[subject][:12]}"
    concept = small_concept()
    names = {f"step_{step:06d}": step for step in steps} | ({"finished": finished} if finished else {})
    for name, step in names.items():
        info = replace(concept.info, class_noun=subject, steps=step, training_key=KEYS[subject])
        save_concept(replace(concept, info=info), folder / f"{name}.safetensors")
        if states:
            (folder / f"{name}.resume").write_bytes(b"s" * 2_000_000)
    for file in folder.iterdir():
        os.utime(file, (changed, changed))
    return folder
