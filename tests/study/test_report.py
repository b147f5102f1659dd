"""Tables, figures and pages from cells that were made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import study.report
from study.cells import Cell, Ledger, Scores
from study.figure import bars_of
from study.plan import AUXILIARY_ALONE, BASE, CORE, EDITED, OTHER_METHODS, PLAIN, Plan, Setting, dci, over_steps
from study.power import lines_of, size_of
from study.premise import GRID, PREMISE, Tradeoff, report, table_of, tradeoff
from study.prompts import KINDS
from study.report import gap_table, settings_table, slope_table, write_report
from study.results import Results, dci_curve, others_of
from study.tables import as_csv, as_markdown

PLAN = replace(
    CORE,
    name="small",
    subjects=CORE.subjects[:3],
    settings=(*CORE.settings, *over_steps(OTHER_METHODS[0])),
)
Wanted = Callable[[Setting], tuple[float, float]]


def finish(folder: Path, plan: Plan, wanted: Wanted, has_clip: bool = True) -> None:
    """Write cells of (likeness, obedience), to which each subject adds its number in hundredths; CLIP says a tenth of both."""
    for number, subject in enumerate(plan.subjects):
        for seed in plan.seeds:
            ledger = Ledger(folder, plan, subject, seed)
            for setting in plan.settings:
                likeness, obedience = (np.full(plan.pictures_of_a_cell, v + number / 100) for v in wanted(setting))
                more = (likeness / 10, obedience / 10) if has_clip else ()
                ledger.write(Cell(plan, subject, seed, setting), Scores(likeness, obedience, *more))


def traded(setting: Setting) -> tuple[float, float]:
    """Everything loses likeness for obedience one to one; two branches gain 0.1 of obedience on top."""
    sampling = setting.sampling
    if sampling.dci is not None:
        strength = float(dict(sampling.dci)["injection_strength"])
        return 0.6 - strength / 20, 0.5 + strength / 20
    lost = max(1 - sampling.strength, sampling.said_until) / 2 + (EDITED.steps - setting.steps) / 1000
    return 0.8 - lost, 0.2 + lost


def test_an_array_has_subjects_trainings_and_the_pictures_of_some_kinds(tmp_path: Path) -> None:
    finish(tmp_path, PLAN, traded)
    results = Results(tmp_path, PLAN)
    values = results.values(PLAN.settings[0], "likeness")
    assert values is not None and values.shape == (3, 2, 12) and values[2, 0, 0] == pytest.approx(0.82)
    assert results.finished == PLAN.cells
    cell = Cell(PLAN, "panda", 1, PLAN.settings[0])
    kinds = np.array([KINDS.index(prompt.kind) for prompt in PLAN.prompts("panda")])
    Ledger(tmp_path, PLAN, "panda", 1).write(cell, Scores(kinds / 10, kinds / 10, kinds / 10, kinds / 10))
    for number, kind in enumerate(KINDS):
        found = Results(tmp_path, PLAN).values(PLAN.settings[0], "obedience", (kind,))
        assert found is not None and found[0, 0].tolist() == [number / 10] * (4 if number < 2 else 2)


def test_a_setting_with_a_missing_cell_is_missing(tmp_path: Path) -> None:
    finish(tmp_path, PLAN, traded)
    Ledger(tmp_path, PLAN, "panda", 2).path.unlink()
    results = Results(tmp_path, PLAN)
    assert results.finished == PLAN.cells - len(PLAN.settings) and results.points(PLAN.settings[0]) is None
    assert settings_table(results)[1][3:] == ["missing"] * (len(settings_table(results)[0]) - 3)
    assert {cell for line in gap_table(results)[1:] for cell in line[2:]} == {"missing", ""}
    assert slope_table(results)[1][1:] == ["missing"] * 2


def test_where_some_cells_have_no_clip_only_the_clip_s_columns_are_missing(tmp_path: Path) -> None:
    finish(tmp_path, PLAN, traded)
    full = settings_table(Results(tmp_path, PLAN)), slope_table(Results(tmp_path, PLAN))
    changed = [PLAN.settings[0], PLAN.find(dci(0.3, 2.0))]
    ledger = Ledger(tmp_path, PLAN, "panda", 2)
    kept = [line for line in ledger.path.read_text(encoding="utf-8").splitlines() if line]
    keys = {Cell(PLAN, "panda", 2, setting).key(True) for setting in changed if setting is not None}
    ledger.path.write_text(
        "".join(f"{line}\n" for line in kept if not any(key in line for key in keys)), encoding="utf-8"
    )
    for setting in changed:
        assert setting is not None
        scores = (np.full(PLAN.pictures_of_a_cell, value) for value in traded(setting))
        Ledger(tmp_path, PLAN, "panda", 2).write(Cell(PLAN, "panda", 2, setting), Scores(*scores))
    results = Results(tmp_path, PLAN)
    for table, before in zip((settings_table(results), slope_table(results)), full):
        assert table[0] == before[0]
        gone = {head for was, now in zip(before, table) for head, a, b in zip(table[0], was, now) if a != b}
        assert gone and all(head.startswith("clip_") for head in gone)
        assert {b for was, now in zip(before, table) for a, b in zip(was, now) if a != b} == {"missing"}


def test_paired_differences_and_gaps_at_equal_likeness(tmp_path: Path) -> None:
    finish(tmp_path, PLAN, traded)
    results = Results(tmp_path, PLAN)
    table = settings_table(results)
    rows = {tuple(line[:3]): dict(zip(table[0], line)) for line in table}
    two = rows[EDITED.name, str(EDITED.steps), dci(0.3, 2.0).name]
    assert two["likeness"] == "0.51 (0.49 … 0.53)" and two["likeness against plain"] == "-0.30 (-0.30 … -0.30)"
    assert two["obedience against plain"] == "+0.40 (+0.40 … +0.40)"
    assert two["clip_t against plain"] == "+0.040 (+0.040 … +0.040)" and two["obedience, style"] == "0.61"
    assert rows[EDITED.name, str(EDITED.steps), PLAIN.name]["likeness against plain"] == ""
    gaps = {tuple(line[:2]): line[2:] for line in gap_table(results)[1:]}
    assert len(gaps) == 2 * 5
    assert gaps["0.3", "weaker weights"][:4] == ["+0.100 (+0.100 … +0.100)", "above"] * 2
    assert gaps["0.3", "weaker weights"][4:] == ["+0.010 (+0.010 … +0.010)", "above"]
    assert gaps["0.5", "the class noun first"][:2] == ["+0.100 (+0.100 … +0.100)", "above"]
    steps = f"{OTHER_METHODS[0].name} over its steps"
    assert gaps["0.3", steps][:2] == ["+0.100 (+0.100 … +0.100)", "above"]
    assert slope_table(results)[2] == ["0.3", "-0.050 (-0.050 … -0.050)", "+0.050 (+0.050 … +0.050)"] + [
        "-0.005 (-0.005 … -0.005)",
        "+0.005 (+0.005 … +0.005)",
    ]


def test_curves_that_share_no_likeness_are_not_compared(tmp_path: Path) -> None:
    finish(
        tmp_path,
        PLAN,
        lambda setting: (0.1, 0.9) if setting.sampling.dci else (0.5 - setting.sampling.strength / 5, 0.5),
    )
    gaps = {tuple(line[:2]): line[2:] for line in gap_table(Results(tmp_path, PLAN))[1:]}
    assert gaps["0.3", "stopped earlier"][:2] == ["nothing in common", ""]


def test_dci_is_compared_with_what_costs_nothing_and_other_trainings() -> None:
    curves = others_of(PLAN)
    assert {name: len(curve) for name, curve in curves.items()} == {
        "stopped earlier": 4,
        "weaker weights": 4,
        "the class noun first": 4,
        "the auxiliary noun first": 4,
        f"{OTHER_METHODS[0].name} over its steps": 3,
    }
    assert all(setting in PLAN.settings for curve in curves.values() for setting in curve)
    assert [setting.sampling for setting in dci_curve(PLAN, 0.3)] == [dci(0.3, strength) for strength in (-2, 0, 2)]


@pytest.mark.parametrize("has_clip", [True, False])
def test_the_page_tells_what_is_there_and_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_clip: bool
) -> None:
    other = replace(PLAN, name="other")
    monkeypatch.setattr(study.report, "PLANS", {plan.name: plan for plan in (PLAN, other)})
    finish(tmp_path / "cells", PLAN, traded, has_clip)
    write_report(tmp_path / "cells", tmp_path, tmp_path / "results.md")
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert f"{PLAN.cells} of {PLAN.cells} cells are there: `python -m study.run small`" in page
    assert "## The other plan\n\nNot run yet: `python -m study.run other`" in page
    assert "![Likeness against obedience](../results/small.png)" in page and "other.png" not in page
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "small.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(PLAN.settings)
    gaps = (tmp_path / "small_gaps.csv").read_text(encoding="utf-8")
    assert ("missing" in gaps) is not has_clip and "+0.100 (+0.100 … +0.100),above" in gaps


def test_bars_reach_from_the_mean_to_the_ends_of_the_interval() -> None:
    differences = np.zeros((4, 1, 2))
    differences[:, 0, 1] = [0.0, 0.0, 1.0, 1.0]  # deviation √(1/3), of the mean √(1/12); t with 3 degrees is 3.1824
    (none, some), (no_more, more) = bars_of(differences)
    assert (none, no_more) == (0.0, 0.0) and (some, more) == pytest.approx([3.1824 / 12**0.5] * 2, abs=1e-4)


def test_tables_as_text() -> None:
    table = [["a", "b"], ["1", "x, y"]]
    assert as_csv(table) == 'a,b\n1,"x, y"\n'
    assert as_markdown(table) == "| a | b |\n|---|---|\n| 1 | x, y |"
    assert as_markdown(table, ["b"]) == "| b |\n|---|\n| x, y |"


def test_the_scatter_of_a_plan_is_told_for_every_setting_but_plain_ones(tmp_path: Path) -> None:
    assert lines_of(PLAN, size_of(CORE), tmp_path) == []
    finish(tmp_path, PLAN, traded)
    lines = lines_of(PLAN, size_of(CORE), tmp_path)
    others = [setting for setting in PLAN.settings if setting.sampling != PLAIN]
    assert len(lines) == 2 * len(others)
    assert all("0.000 (subjects), 0.000 (trainings), 0.000 (pictures); sees 0.000" in line for line in lines)


def overfitted(setting: Setting) -> tuple[float, float]:
    """Only the second training of the grid, at its end, has lost 0.3 of 0.9; the first has lost its subject."""
    is_second = setting.method == GRID[1] and setting.steps == GRID[1].steps
    if setting.sampling == BASE:
        return 0.0, 0.9
    if setting.sampling == AUXILIARY_ALONE:
        return 0.0, 0.85
    return (0.8, 0.6) if is_second else (0.4, 0.6) if setting.method == GRID[0] else (0.8, 0.8)


def test_the_premise_marks_the_trainings_with_something_to_repair(tmp_path: Path) -> None:
    finish(tmp_path, PREMISE, overfitted)
    results = Results(tmp_path, PREMISE)
    found = tradeoff(results, GRID[1], GRID[1].steps)
    assert found is not None and found.is_real
    assert (found.likeness, found.lost, found.kept) == pytest.approx((0.815, 0.3, -0.05))
    lines = report(tmp_path, tmp_path / "premise.csv")
    real = [line for line in lines if line.startswith("REAL")]
    assert len(lines) == len(GRID) * 2 and len(real) == 1
    assert real[0].startswith(f"REAL {GRID[1].name} at {GRID[1].steps}: likeness 0.8")
    assert real[0].endswith("plain loses +0.30, the auxiliary prompt +0.05")
    table = table_of(results)
    assert len(table) == 1 + len(PREMISE.settings) and table[1][2:5] == [BASE.name, "0.02", "0.92"]
    assert len((tmp_path / "premise.csv").read_text(encoding="utf-8").splitlines()) == len(table)


def test_the_premise_of_some_subjects_does_without_the_others(tmp_path: Path) -> None:
    first = PREMISE.subjects[:1]
    finish(tmp_path, replace(PREMISE, subjects=first), overfitted)
    assert report(tmp_path, tmp_path / "premise.csv") == []
    of_all = (tmp_path / "premise.csv").read_bytes()
    assert len(report(tmp_path, tmp_path / "premise.csv", first)) == len(GRID) * 2
    assert (tmp_path / "premise.csv").read_bytes() == of_all, "some subjects' verdicts overwrote the table of all"


@pytest.mark.parametrize(
    ("likeness", "lost", "kept", "real"),
    [(0.6, 0.2, -0.1, True), (0.59, 0.2, -0.1, False), (0.6, 0.19, -0.1, False), (0.6, 0.2, -0.11, False)],
)
def test_a_trade_off_is_real_with_a_subject_a_loss_and_something_to_repair_it_with(
    likeness: float, lost: float, kept: float, real: bool
) -> None:
    assert Tradeoff(likeness, lost, kept).is_real is real


def test_without_cells_the_premise_says_so(tmp_path: Path) -> None:
    assert report(tmp_path, tmp_path / "premise.csv") == []
    assert "missing" in (tmp_path / "premise.csv").read_text(encoding="utf-8")
