"""The study asks what it says it asks, and its statistics are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo_world.concepts import CONCEPTS
from demo_world.scenes import caption
from study.cells import Cell, read_rows, rows_of, write_rows
from study.plan import FIGURES, METHODS, STUDIED, Sampling, auxiliary_noun_for, prompts_for
from study.scoring import Score
from study.statistics import bootstrap, curve_gap, verdict


def test_twenty_prompts_of_the_four_kinds_name_the_concept_once() -> None:
    for concept in CONCEPTS:
        prompts = prompts_for(concept)
        assert len(prompts) == len({prompt.text for prompt in prompts}) == 20
        assert {prompt.kind for prompt in prompts} == {"context", "second noun", "colour", "style"}
        for prompt in prompts:
            assert prompt.text.count(f"V* {concept.noun}") == 1 and prompt.plain_text == caption(prompt.scene)
            assert auxiliary_noun_for(concept, prompt) not in prompt.plain_text.split()
    texts = [prompt.text for prompt in prompts_for(CONCEPTS[0])]
    assert "photo of a red V* cat" in texts and "photo of a V* cat on grass" in texts


def test_at_least_eight_graded_concepts_are_studied() -> None:
    assert len(STUDIED) >= 8 and {concept.difficulty for concept in STUDIED} == {1, 2, 3}


def test_setting_names_are_unique() -> None:
    names = [sampling.name for figure in FIGURES for sampling in figure.samplings]
    assert len(names) == len(set(names)) and len({figure.name for figure in FIGURES}) == len(FIGURES)


def test_the_gap_between_curves_by_hand() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 1.0]])  # a straight line, editability = 1 - fidelity
    above = np.array([[0.25, 0.85], [0.5, 0.6]])
    assert curve_gap(above, reference) == pytest.approx(0.1)
    assert curve_gap(reference, reference) == 0.0
    assert curve_gap(np.array([[0.5, 0.2], [1.5, 9.0]]), reference) == pytest.approx(-0.3)  # the second is out of reach
    assert np.isnan(curve_gap(np.array([[2.0, 2.0]]), reference))


def test_the_interval_holds_the_mean_and_shrinks_with_more_concepts() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(1.0, 0.5, 8), rng.normal(1.0, 0.5, 800)
    mean, low, high = bootstrap(few, float)
    assert mean == pytest.approx(few.mean()) and low < mean < high
    _, tight_low, tight_high = bootstrap(many, float)
    assert tight_high - tight_low < (high - low) / 4
    assert bootstrap(np.full(5, 2.0), float) == (2.0, 2.0, 2.0)
    assert bootstrap(few, float) == (mean, low, high)


def test_a_verdict_needs_the_whole_interval_on_one_side() -> None:
    assert [verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-0.1, 0.1)] == ["above", "below", "not told apart"]


def test_cells_are_kept_by_everything_that_shapes_them(tmp_path: Path) -> None:
    cell = Cell(CONCEPTS[0], METHODS[0], 100, Sampling("plain"))
    others = [
        replace(cell, concept=CONCEPTS[1]), replace(cell, method=METHODS[1]), replace(cell, steps=200),
        replace(cell, sampling=Sampling("plain", strength=0.5)),
        replace(cell, sampling=Sampling("plain", dci={"injection_strength": 1.0})),
    ]  # fmt: skip
    paths = {each.path(tmp_path, "1") for each in [cell, *others]} | {cell.path(tmp_path, "2")}
    assert len(paths) == len(others) + 2 and cell.path(tmp_path, "1") in paths
    rows = rows_of(prompts_for(CONCEPTS[0])[0], [Score(0.5, True, 0.25, False), Score(0.1, False, 1.0, True)])
    write_rows(cell.path(tmp_path, "1"), rows)
    assert read_rows(cell.path(tmp_path, "1")) == rows and [row.picture for row in rows] == [0, 1]
