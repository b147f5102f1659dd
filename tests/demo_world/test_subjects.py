"""The custom subjects that ship: their order, and what an export leaves in the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from comfyui_dci.nodes.host.demo_model import SUBJECTS_FILE, list_subjects, subject_images

from demo_world.commands.export_subjects import subject_list, write_pictures
from demo_world.judge import load_judge
from demo_world.subjects import class_distance
from demo_world.vocabulary import EXEMPLARS, SUBJECTS


def reading(**shares: float) -> torch.Tensor:
    """One row of probabilities of sprites, [EXEMPLARS]."""
    row = torch.zeros(len(EXEMPLARS))
    for name, share in shares.items():
        row[EXEMPLARS.index(name)] = share
    return row


def test_the_distance_from_the_class_by_hand() -> None:
    """Of the 0.1 and 0.5 that are left to training exemplars, 0.08 and 0.1 are bears': shares 0.8 and 0.2."""
    first = reading(panda=0.85, zebra=0.05, bear=0.06, **{"polar-bear": 0.02}, lion=0.02)
    second = reading(panda=0.5, bear=0.1, lion=0.4)
    assert class_distance(first[None], "panda") == pytest.approx(0.2)
    assert class_distance(torch.stack([first, second]), "panda") == pytest.approx(0.5)
    assert class_distance(first[None], "zebra") == pytest.approx(1.0)
    assert class_distance(reading(panda=1.0)[None], "panda") == 1.0


def test_the_list_is_by_distance_whatever_the_vocabulary_says() -> None:
    assert subject_list({"poodle": 0.99951, "panda": 0.204, "yarn": 0.9995}) == [
        {"name": "panda", "class_noun": "bear", "distance": 0.2},
        {"name": "yarn", "class_noun": "ball", "distance": 1.0},
        {"name": "poodle", "class_noun": "dog", "distance": 1.0},
    ]


def test_what_an_earlier_export_left_is_removed(tmp_path: Path) -> None:
    pictures = torch.rand(3, 3, 16, 16)
    write_pictures(tmp_path, {"panda": pictures, "old-name": pictures})
    write_pictures(tmp_path, {"panda": pictures[:2]})
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "panda",
        "panda/1.webp",
        "panda/2.webp",
    ]


def test_the_shipped_order_is_what_the_shipped_judge_measures() -> None:
    """But for what WEBP changes in the pictures."""
    distances = {entry["name"]: entry["distance"] for entry in json.loads(SUBJECTS_FILE.read_text(encoding="utf-8"))}
    assert list(distances.values()) == sorted(distances.values()) and distances.keys() == SUBJECTS.keys()
    judge = load_judge()
    for subject in list_subjects():
        found = class_distance(judge.read(subject_images(subject).movedim(-1, 1)).exemplar, subject.name)
        assert found == pytest.approx(distances[subject.name], abs=0.06), subject.name
