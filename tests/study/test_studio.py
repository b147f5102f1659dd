"""One small cell of the study, from fine-tuning to the report, on the demo model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import study.cells
import study.report
import study.studio
from demo_world.classifier import load_judge
from study.cells import Cell, Ledger, rows_of
from study.plan import EDITED, FIGURES, PICTURES, SEEDS, STUDIED, Sampling, prompts_for
from study.report import dci_curve, write_report
from study.scoring import Score, score
from study.studio import Studio

CHECKPOINTS = (1, 2)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("concepts"))


def test_a_run_keeps_every_checkpoint_and_runs_once(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study.studio, "checkpoints_of", lambda method: CHECKPOINTS)
    first, second = (studio.fine_tune(STUDIED[0], EDITED, steps) for steps in CHECKPOINTS)
    assert first != second and first.is_file() and second.is_file()
    written = second.stat().st_mtime_ns
    assert studio.fine_tune(STUDIED[0], EDITED, 2) == second and second.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "how",
    [
        Sampling("plain"),
        Sampling("weaker", strength=0.5),
        Sampling("noun first", noun_until=0.3),
        Sampling("dci", dci={"injection_strength": 1.0, "mask_preset": "resolution_normalized"}),
        Sampling("alone", dci={"injection_strength": 1.0}, entire_prompt=False, auxiliary_noun="umbrella"),
    ],
    ids=lambda how: how.name,
)
def test_every_way_to_sample_draws_and_is_judged(
    studio: Studio, how: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study.studio, "checkpoints_of", lambda method: CHECKPOINTS)
    monkeypatch.setattr(study.studio, "STEPS", 4)
    concept, prompt = STUDIED[0], prompts_for(STUDIED[0])[0]
    trained = studio.fine_tune(concept, EDITED, 2)
    images = studio.draw(trained, concept, prompt, how, seed=1)
    assert images.shape == (study.plan.PICTURES, 128, 128, 3)
    rows = rows_of(prompt, score(load_judge(), images, concept, prompt))
    assert all(0 <= row.score.fidelity <= 1 and 0 <= row.score.editability <= 1 for row in rows)
    assert torch.equal(studio.draw(trained, concept, prompt, how, seed=1), images)
    assert not torch.equal(studio.draw(trained, concept, prompt, how, seed=2), images)


def test_the_report_says_what_is_missing_and_draws_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study.report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study.report, "PAGE", tmp_path / "results.md")
    figure = next(figure for figure in FIGURES if figure.name == "finetuning")
    settings = [
        (method, steps, sampling)
        for method in figure.methods
        for steps in figure.steps
        for sampling in figure.samplings
    ]
    settings += dci_curve(0.5)
    for number, concept in enumerate(STUDIED):
        ledger = Ledger(tmp_path, concept)
        for place, (method, steps, sampling) in enumerate(settings):
            likeness = steps / 1000 + number / 100 + (place / 100 if sampling.dci else 0.0)
            one = Score(likeness, True, 1 - likeness, True)
            rows = [row for prompt in prompts_for(concept) for row in rows_of(prompt, [one] * PICTURES)]
            ledger.write(Cell(concept, method, steps, sampling, SEEDS[0]), rows)
        ahead = Cell(concept, *settings[0], SEEDS[1])  # not comparable with the others, so it must not count
        ledger.write(ahead, [row for prompt in prompts_for(concept) for row in rows_of(prompt, [one] * PICTURES)])
    write_report(tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert "| ICO (1,1,3) | 100 | plain | 1 | 0.1" in page and "| alternatives |" not in page and "missing" in page
    assert "| 0.5 | +0.010 (+0.010 … +0.010) | -0.010 (-0.010 … -0.010) |" in page  # one place, 0.01, a unit of λ
    assert "| 0.5 | ICO (1,1,3) over its steps | no fidelity in common |" in page
    assert (tmp_path / "results" / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "results" / "finetuning.csv").read_text().splitlines()
    assert (
        len(table) == 1 + len(figure.methods) * len(figure.steps)
        and ",0.14 (0.12 … 0.15),0.86 (0.85 … 0.88),," in table[1]
    )
