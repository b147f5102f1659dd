"""The study of defaults: its rows, its tables and its arithmetic, on the demo model with two training steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from study import defaults_bench as bench_module
from study import defaults_jobs as jobs
from study import defaults_report as report
from study import defaults_scores as scores
from study.defaults import work
from study.worlds import DemoWorld


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bench_module.Bench:
    made = bench_module.Bench(DemoWorld(), tmp_path)
    tasks, references, sample = made.world.tasks, made.world.references, made._sample
    monkeypatch.setattr(made.world, "references", lambda subject: references(subject)[:2])
    monkeypatch.setattr(made.world, "tasks", lambda subject: tasks(subject)[3:4])  # one prompt, with a second object
    monkeypatch.setattr(made, "_sample", lambda *given: sample(*given[:-1], replace(given[-1], steps=2)))
    monkeypatch.setattr(jobs, "PICTURES", 1)
    return made


def test_a_subject_is_trained_measured_and_waited_for(bench: bench_module.Bench, tmp_path: Path) -> None:
    subject = bench.world.choice[0]
    recipe = bench_module.Recipe(class_images=0, steps=2)
    waits = jobs.path_job(subject, recipe, 2, 11, {"steps": 2, "fraction": 0.9})
    assert not waits(bench, jobs.Writer(tmp_path / "none.jsonl"))
    work(
        bench, [("paths", waits), ("train", jobs.training_job(subject, recipe, (1, 2), 11))], tmp_path, 7, float("inf")
    )
    rows = [json.loads(line) for line in (tmp_path / "rows_demo_256_7.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["table"] == "training"]
    assert [row["step"] for row in trained] == [1, 2] and 0 < trained[0]["change"] < trained[1]["change"] < 0.05
    paths = {row["path"]: row for row in rows if row["table"] == "paths"}
    assert set(paths) == set(bench_module.PATHS)
    assert all(0 <= row["likeness"] <= 1 and row["least"] <= row["most"] for row in paths.values())
    lines = report.table(list(paths.values()), *report.TABLES["paths"])
    assert len(lines) == len(paths) and {line["set"] for line in lines} == {"choice"}


def test_rates_are_the_presets_times_the_recipes(bench: bench_module.Bench) -> None:
    plain, more = bench.rates(bench_module.Recipe()), bench.rates(bench_module.Recipe(2, 3, 4))
    assert plain[0] == pytest.approx(6e-5 * (768 / 256) ** 0.5, rel=5e-3)
    assert [b / a for a, b in zip(plain, more)] == pytest.approx([2, 3, 4])


def test_distances_by_hand() -> None:
    aim = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert scores.distance(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), aim) == pytest.approx(0.25)  # (0 + 1/2) / 2
    some = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert scores.moment_distance(some, some) == pytest.approx(0.0, abs=1e-6)
    assert scores.moment_distance(some + 1.0, some) == pytest.approx(16.0, rel=1e-5)  # 16 means, each 1 away


def test_tables_average_over_prompts_and_keep_extremes() -> None:
    row = {
        "table": "distance",
        "world": "demo",
        "seed": 11,
        "subject": "a",
        "strength": 2.0,
        "fraction": 0.3,
        "cfg": 7.0,
    }
    rows = [{**row, "path": "p", "distance": d, "least": d, "most": d} for d in (0.1, 0.3)]
    (line,) = report.table(rows, *report.TABLES["distance"])
    assert (line["rows"], line["distance"], line["least"], line["most"], line["correlation"]) == (2, 0.2, 0.1, 0.3, "")
