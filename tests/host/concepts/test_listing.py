"""The list of concepts: saved ones by their names, then those of trainings by subject, steps and date."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from comfyui_dci.dci_core.concept.file import save_concept
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.concepts.listing import offered_concepts
from comfyui_dci.nodes.host.concepts.store import find_concept, register_folder, training_root
from concept_files import small_concept
from left_runs import leave_run

THEN = time.mktime((2026, 11, 26, 14, 3, 0, 0, 0, -1))


def test_saved_concepts_stand_first_and_runs_say_what_they_are_newest_first(models: Path) -> None:
    register_folder()
    save_concept(small_concept(), models / "dci_concepts" / "zoo" / "tom.safetensors")
    leave_run(training_root(), "cat", THEN - 3600, 100, finished=300)
    car = leave_run(training_root(), "car", THEN, finished=500)
    (car / "best.safetensors").write_bytes(b"half")
    (car / "mine.safetensors").write_bytes(b"saved there by hand")
    assert offered_concepts() == [
        "training/car-cccccccccccc/mine.safetensors",
        "zoo/tom.safetensors",
        "car · 500 steps · 2026-11-26 14:03 · training/car-cccccccccccc/finished.safetensors",
        "cat · 300 steps · 2026-11-26 13:03 · training/cat-aaaaaaaaaaaa/finished.safetensors",
        "cat · step 100 · 2026-11-26 13:03 · training/cat-aaaaaaaaaaaa/step_000100.safetensors",
        "training/car-cccccccccccc/best.safetensors",
    ]


def test_every_choice_of_today_and_of_before_leads_to_its_file(models: Path) -> None:
    register_folder()
    finished = leave_run(training_root(), "car", THEN, finished=500) / "finished.safetensors"
    (choice,) = offered_concepts()
    name = "training/car-cccccccccccc/finished.safetensors"
    for value in (choice, name, f"car · 500 steps · 2024-01-01 00:00 · {name}"):
        assert find_concept(value) == finished
    odd = models / "dci_concepts" / f"mine · {name}"
    save_concept(small_concept(), odd)
    assert find_concept(f"mine · {name}") == odd
    with pytest.raises(UserInputError, match="There is no concept 'car · 500 steps · training/gone.safetensors'"):
        find_concept("car · 500 steps · training/gone.safetensors")
