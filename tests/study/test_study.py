"""The study asks what it says it asks, and its statistics are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import study.cells
import study.retraining
import study.two_concepts as two_concepts
from demo_world.concepts import CONCEPTS
from demo_world.scenes import caption
from study.cells import Cell, Ledger, Row, rows_of
from study.class_images import class_images
from study.plan import (
    FIGURES,
    HIGH_RATE,
    METHODS,
    PICTURES,
    SEEDS,
    STUDIED,
    USUAL_RATE,
    Sampling,
    Trial,
    auxiliary_noun_for,
    dci_name,
    prompts_for,
)
from study.run import cells_of
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


def test_a_setting_name_means_one_setting() -> None:
    named: dict[str, Sampling] = {}
    for sampling in (sampling for figure in FIGURES for sampling in figure.samplings):
        assert named.setdefault(sampling.name, sampling) == sampling
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)


def test_the_paper_s_sweeps_are_asked_for() -> None:
    names = {sampling.name for figure in FIGURES for sampling in figure.samplings}
    assert {dci_name(fraction, strength) for fraction in (0.05, 0.15, 0.3) for strength in (-2, -1, 0, 1, 2)} <= names


@pytest.mark.parametrize(("trial", "seeds"), [(USUAL_RATE, SEEDS), (HIGH_RATE, SEEDS[:1])])
def test_each_trial_is_run_with_its_seeds(trial: Trial, seeds: tuple[int, ...]) -> None:
    for method in trial.methods[1:]:  # textual inversion has one rate and belongs to both
        found = {cell.seed for cell in cells_of(STUDIED[:1]) if cell.method == method}
        assert found == set(seeds) and len(SEEDS) > 1


def test_cells_come_seed_by_seed_and_once() -> None:
    cells = list(cells_of(STUDIED[:2]))
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    keys = [cell.key for cell in cells]
    assert len(keys) == len(set(keys))
    asked = {(cell.method.name, cell.steps, cell.sampling.name) for cell in cells if cell.concept == STUDIED[1]}
    assert asked == {
        (method.name, steps, sampling.name)
        for figure in FIGURES
        for method in figure.methods
        for steps in figure.steps
        for sampling in figure.samplings
    }


def test_class_images_show_the_class_noun_and_are_always_the_same() -> None:
    images, captions = class_images("cat", 12)
    again, _ = class_images("cat", 12)
    assert all(torch.equal(one, other) for one, other in zip(images, again, strict=True))
    assert all("cat" in text.split() for text in captions) and len(set(captions)) > 6
    assert all(image.shape == (128, 128, 3) and 0 <= image.min() < image.max() <= 1 for image in images)
    assert class_images("dog", 12)[1] != captions


def test_the_gap_between_curves_by_hand() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 1.0]])  # a straight line, editability = 1 - fidelity
    above = np.array([[0.25, 0.85], [0.5, 0.6]])
    assert curve_gap(above, reference) == pytest.approx(0.1)
    assert curve_gap(reference, reference) == 0.0
    assert curve_gap(np.array([[0.5, 0.2], [-0.5, 9.0]]), reference) == pytest.approx(
        -0.3
    )  # the second is out of reach
    assert curve_gap(np.array([[1.04, 0.25]]), reference) == pytest.approx(0.25)  # just beyond, its last point counts
    assert np.isnan(curve_gap(np.array([[-1.0, 2.0], [1.06, 2.0]]), reference))


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


def test_cells_are_kept_by_everything_that_shapes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(CONCEPTS[0], METHODS[0], 100, Sampling("plain"), 1)
    others = [
        replace(cell, concept=CONCEPTS[1]),
        replace(cell, method=METHODS[1]),
        replace(cell, steps=200),
        replace(cell, sampling=Sampling("plain", strength=0.5)),
        replace(cell, seed=2),
        replace(cell, sampling=Sampling("plain", dci={"injection_strength": 1.0})),
    ]
    keys = {each.key for each in [cell, *others]}
    assert len(keys) == len(others) + 1 and cell.key in keys
    monkeypatch.setattr(study.cells, "prompts_for", lambda concept: prompts_for(concept)[1:])
    assert cell.key not in keys
    monkeypatch.undo()
    monkeypatch.setattr(study.cells, "REVISION", "another")
    assert cell.key not in keys


def test_a_ledger_gives_back_what_was_written_and_keeps_the_rest(tmp_path: Path) -> None:
    concept = CONCEPTS[0]
    cell = Cell(concept, METHODS[0], 100, Sampling("plain"), 1)
    other = replace(cell, steps=200)
    rng = np.random.default_rng(0)
    rows = [
        row
        for prompt in prompts_for(concept)
        for row in rows_of(
            prompt, [Score(round(rng.random(), 4), True, round(rng.random(), 4), False) for _ in range(PICTURES)]
        )
    ]
    ledger = Ledger(tmp_path, concept)
    assert cell not in ledger
    with pytest.raises(KeyError):
        ledger.read(cell)
    ledger.write(cell, rows)
    Ledger(tmp_path, concept).write(other, rows)
    found = Ledger(tmp_path, concept)
    assert cell in found and other in found and found.read(cell) == rows


def test_each_ablation_is_compared_with_dci_of_the_same_training_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tmp_path / "cells", tmp_path / "retrained"
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(study.retraining, "CELLS", folders[0])
    monkeypatch.setattr(study.retraining, "RETRAINED", folders[1])
    values = {(0, "dci", 1): 0.5, (0, "dci", 2): 0.9, (1, "dci", 2): 0.3, (0, "other", 1): 0.6, (0, "other", 2): 0.6}
    reference, *others = study.retraining.ABLATIONS
    for concept in STUDIED:
        for (folder, kind, seed), value in values.items():
            for sampling in [reference] if kind == "dci" else others:
                cell = Cell(concept, study.retraining.EDITED, study.retraining.EDITED_AT, sampling, seed)
                rows = [
                    Row(prompt.text, prompt.kind, 0, Score(value, True, 1 - value, True))
                    for prompt in prompts_for(concept)
                ]
                Ledger(folders[folder], concept).write(cell, rows)
    lines = study.retraining.paired_ablations().splitlines()
    assert len(lines) == 1 + len(others)  # 0.6 - 0.5 and 0.6 - 0.3, not 0.6 - 0.9
    assert all("+0.200 (+0.200 … +0.200),-0.200 (-0.200 … -0.200)" in line for line in lines[1:])


def test_pairs_of_two_concepts_have_every_subject_in_both_places_and_two_nouns() -> None:
    found = list(two_concepts.pairs(STUDIED))
    assert [first for first, _ in found] == list(STUDIED) and {second for _, second in found} == set(STUDIED)
    assert all(first.noun != second.noun for first, second in found)
    same_noun = [replace(STUDIED[0], name="other"), *STUDIED[:2]]
    assert [second.name for _, second in two_concepts.pairs(same_noun)] == [STUDIED[1].name, STUDIED[1].name, "other"]
    first, second = STUDIED[0], STUDIED[1]  # a tiger and a panda
    alone, both = (two_concepts.prompt_of(first, second, way) for way in two_concepts.WAYS[1:4:2])
    assert (alone, both) == ("photo of a V* cat with a bear", "photo of a V* cat with a W* bear")


def test_a_pair_is_judged_by_what_is_main_and_what_is_beside_it() -> None:
    names, first, second = two_concepts.NAMES, STUDIED[0], STUDIED[1]

    def heads(pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """Two pictures: the first subject with the second's noun beside it, and the second subject alone."""
        subject = torch.full((2, len(names["subject"])), -30.0)
        beside = torch.full((2, len(names["second_noun"])), -30.0)
        subject[0, names["subject"].index(first.name)] = subject[1, names["subject"].index(second.name)] = 0.0
        beside[0, names["second_noun"].index(second.noun)] = beside[1, names["second_noun"].index("")] = 0.0
        return {"subject": subject, "second_noun": beside}

    means = two_concepts.judged(heads, torch.zeros(2, 8, 8, 3), first, second)  # heads alone are judged
    assert means.tolist() == pytest.approx([0.5, 0.5, 0.5], abs=1e-6)
    assert two_concepts.table({"a, b": np.array([[0.5, 0.0, 1.0]] * 3)}).splitlines()[1] == (
        '"a, b",0.50 (0.50 … 0.50),0.00 (0.00 … 0.00),1.00 (1.00 … 1.00)'
    )
