"""A training that has not learned its subject is repeated, by pictures that the study does not use, and what was found is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from study import screening
from study.cells import Cell, Scores
from study.plan import CORE, PLAIN, WIDE
from study.premise import PREMISE
from study.screening import NEXT_SEED, TRIES, screened_seed

CELL = Cell(CORE, "panda", 2, CORE.settings[0])


class Studio:
    """Trains nothing, and draws pictures that are as bright as a training is good.

    Args:
        likeness: of the trainings, by their seeds.
    """

    def __init__(self, likeness: dict[int, float]) -> None:
        self.likeness, self.trained, self.drawn = likeness, [], []

    def fine_tune(self, subject: str, method: Any, steps: int, seed: int) -> Path:
        self.trained.append((subject, steps, seed))
        return Path(str(seed))

    def draw(self, concept_file: Path, prompts: Any, how: Any, noises: int, seed: int) -> torch.Tensor:
        self.drawn.append(([prompt.text for prompt in prompts], how, noises, seed))
        return torch.full((noises, 2, 2, 3), self.likeness[int(str(concept_file))])


@pytest.fixture(autouse=True)
def _bright_is_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def score(judge: Any, images: torch.Tensor, prompts: Any) -> Scores:
        assert len(images) == len(prompts)
        values = images.mean(dim=(1, 2, 3)).double().numpy()
        return Scores(values, values)

    monkeypatch.setattr(screening, "score", score)


def seed_of(studio: Studio, folder: Path, cell: Cell = CELL) -> int:
    judge: Any = None
    return screened_seed(studio, judge, cell, folder)


def test_a_training_that_has_learned_is_taken_as_it_is(tmp_path: Path) -> None:
    studio = Studio({2: 0.5})
    assert seed_of(studio, tmp_path) == 2
    assert studio.trained == [("panda", CELL.setting.method.steps, 2)]
    ((texts, how, noises, _),) = studio.drawn
    assert texts == ["photo of a V* bear"] and how == PLAIN and noises == screening.PICTURES
    assert texts[0] not in {prompt.text for plan in (CORE, WIDE) for prompt in plan.prompts("panda")}


def test_another_seed_is_tried_until_one_has_learned(tmp_path: Path) -> None:
    studio = Studio({2: 0.1, 2 + NEXT_SEED: 0.49, 2 + 2 * NEXT_SEED: 0.8})
    assert seed_of(studio, tmp_path) == 2 + 2 * NEXT_SEED
    assert len({noise for *_, noise in studio.drawn}) == 3


def test_where_none_has_learned_the_most_faithful_is_taken(tmp_path: Path) -> None:
    likeness = {2 + number * NEXT_SEED: 0.1 + (0.2 if number == 1 else 0.0) for number in range(TRIES)}
    studio = Studio(likeness)
    assert seed_of(studio, tmp_path) == 2 + NEXT_SEED and len(studio.trained) == TRIES


def test_what_was_found_is_kept_for_all_settings_and_looked_for_anew_when_the_training_changes(tmp_path: Path) -> None:
    studio = Studio({2: 0.1, 2 + NEXT_SEED: 0.8})
    seed_of(studio, tmp_path)
    seed_of(studio, tmp_path, replace(CELL, setting=CORE.settings[3]))
    assert len(studio.trained) == 2
    changed = replace(CELL.setting.method, learning_rate=1.0)
    seed_of(studio, tmp_path, replace(CELL, setting=replace(CELL.setting, method=changed)))
    assert len(studio.trained) == 4
    kept = [file.read_text(encoding="utf-8") for file in (tmp_path / "core" / "trainings").iterdir()]
    assert len(kept) == 2 and all('"tries": [[2, 0.1], [1002, 0.8]], "taken": 1002' in text for text in kept)


def test_the_plans_are_screened_and_the_premise_is_not() -> None:
    assert CORE.is_screened and WIDE.is_screened and not PREMISE.is_screened
    assert replace(CELL, plan=replace(CORE, is_screened=False)).key(True) != CELL.key(True)
    others = {seed + number * NEXT_SEED for seed in CORE.seeds for number in range(TRIES)}
    assert len(others) == len(CORE.seeds) * TRIES and not others & set(PREMISE.seeds)
