"""The demo is chosen by what its dial does, over trainings and noises that the demo does not show."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from demo_world.vocabulary import SUBJECTS
from study import demo_candidates, demo_choice
from study.cells import Scores
from study.demo_candidates import FINAL, FRACTION, METHODS, SEARCH, Candidate, Look, Row, best, candidates_of, finalists
from study.demo_choice import Job, difference, missing
from study.demo_scenes import SCENES
from study.plan import CONTEXT_RATE_FACTOR, Method, Sampling, dci
from study.prompts import KINDS, Prompt
from workbench.pack import ROOT

METHOD = next(iter(METHODS.values()))
ROW = Row(
    subject="panda",
    prompt=Prompt(demo_choice.KIND, SCENES["panda"][0]).text,
    method=METHOD.name,
    steps=METHOD.steps,
    seed=SEARCH.trainings[0],
    fraction=FRACTION,
    plain_likeness=0.9,
    plain_obedience=0.1,
    likeness=(0.9, 0.8, 0.7),
    obedience=(0.1, 0.2, 0.4),
    change=10.0,
    plain_change=20.0,
    training="",
    judge="",
)


def of_all(look: Look, **changes: Any) -> list[Row]:
    """The row in every training of a look."""
    return [replace(ROW, seed=seed, **changes) for seed in look.trainings]


def only(rows: list[Row], look: Look = SEARCH) -> Candidate:
    (candidate,) = candidates_of(rows, look)
    return candidate


def test_a_dial_turns_when_pictures_likeness_and_obedience_say_so() -> None:
    turning = only(of_all(SEARCH))
    assert turning.turns and turning.gain == pytest.approx(0.3)
    assert not only(of_all(SEARCH, change=9.9)).is_seen  # less than half of what leaving DCI out changes
    assert not only(of_all(SEARCH, likeness=(0.9, 0.8, 0.34))).is_seen  # the subject is gone
    likeness_rises = only(of_all(SEARCH, likeness=(0.6, 0.8, 0.7)))
    assert likeness_rises.is_seen and not likeness_rises.turns
    assert not only(of_all(SEARCH, obedience=(0.5, 0.2, 0.4))).turns


def test_a_candidate_is_the_mean_over_all_trainings_of_its_look() -> None:
    first, second = of_all(SEARCH)
    second = replace(second, obedience=(0.3, 0.2, 0.2), likeness=(0.5, 0.8, 0.7))
    candidate = only([second, first])
    assert [row.seed for row in candidate.rows] == list(SEARCH.trainings)
    assert candidate.gain == pytest.approx(0.1) and candidate.gains == pytest.approx([0.3, -0.1])
    assert candidate.means["likeness λ -2"] == pytest.approx(0.7)
    assert not candidates_of([first], SEARCH) and not candidates_of([first, second], FINAL)


def test_the_best_turns_furthest_and_finalists_are_of_the_search() -> None:
    weaker = of_all(SEARCH, prompt="weaker", obedience=(0.1, 0.2, 0.2))
    lost = of_all(SEARCH, prompt="lost", likeness=(0.9, 0.8, 0.1), obedience=(0.0, 0.0, 1.0))
    final = [*of_all(FINAL), *of_all(FINAL, prompt="further", obedience=(0.1, 0.2, 0.5))]
    rows = [*weaker, *lost, *of_all(SEARCH), *final]
    assert [candidate.prompt for candidate in finalists(rows)] == [ROW.prompt, "weaker"]
    chosen = best(rows)
    assert chosen is not None and chosen.prompt == "further" and chosen.look is FINAL
    assert best([*weaker, *of_all(SEARCH)]) is None
    reversed_dial = best(of_all(FINAL, obedience=(0.4, 0.2, 0.1)))
    assert reversed_dial is not None and not reversed_dial.turns


def test_differences_by_hand() -> None:
    black, white = torch.zeros(2, 3, 4, 4, 3), torch.ones(2, 3, 4, 4, 3)
    white[1] = 0.2
    assert difference(black, white, 0) == 255 and difference(black, white, 1) == pytest.approx(51)


def test_the_table_has_the_finalists_first() -> None:
    lines = list(csv.DictReader(io.StringIO(demo_candidates.as_table([*of_all(SEARCH), *of_all(FINAL)]))))
    assert [line["look"] for line in lines] == ["final", "search"]
    assert lines[0]["obedience λ 2"] == "0.400" and lines[0]["dial turns"] == "True"
    assert lines[1]["gain in each training"] == " ".join(["+0.30"] * len(SEARCH.trainings))


def test_candidates_are_held_out_subjects_in_scenes_of_this_world() -> None:
    assert SCENES.keys() <= SUBJECTS.keys() and demo_choice.KIND in KINDS
    for subject, scenes in SCENES.items():
        assert all(scene.exemplar == subject and scene.companion for scene in scenes)


def shipped() -> dict[str, dict[str, Any]]:
    """Inputs of the shipped demo's nodes."""
    graph = json.loads((ROOT / "workflows" / "api" / "demo.json").read_text(encoding="utf-8"))
    return {entry["class_type"]: entry["inputs"] for entry in graph.values()}


def test_the_shipped_demo_is_the_best_of_the_finalists_and_shows_other_trainings_and_noises() -> None:
    nodes = shipped()
    trainer = nodes["ICOTrainer"] | nodes["DCITrainingSettings"]
    sweep = nodes["DCILambdaSweep"]
    with demo_choice.TABLE.open(encoding="utf-8") as file:
        final = [line for line in csv.DictReader(file) if line["look"] == "final"]
    winner = max(final, key=lambda line: float(line["obedience λ 2"]) - float(line["obedience λ -2"]))
    assert winner["subject"] == nodes["DCIDemoSubject"]["subject"]
    assert winner["prompt"] == nodes["AuxPromptBuilder"]["prompt"]
    method = METHODS[winner["method"]]
    assert sweep["active_fraction"] == float(winner["T_a"])
    assert trainer["steps"] == int(winner["steps"]) and trainer["ema_decay"] == method.ema_decay
    assert trainer["learning_rate"] == method.learning_rate
    assert trainer["context_learning_rate"] == CONTEXT_RATE_FACTOR * method.learning_rate
    assert "regularization_images" not in trainer and method.class_images == 0
    assert sweep["active_fraction"] == FRACTION
    defaults = dci(FRACTION, 0.0)  # all else of the dial is as the pack's defaults say
    assert defaults.dci is not None and {name for name, _ in defaults.dci} == {"active_fraction", "injection_strength"}
    assert sweep["mask_preset"] == "calibrated" and sweep["share_noise"] is False
    assert trainer["seed"] not in (*SEARCH.trainings, *FINAL.trainings)
    assert not {SEARCH.seed, FINAL.seed} & set(range(sweep["seed"], sweep["seed"] + sweep["seed_count"]))


def test_rows_count_while_what_made_them_is_there(tmp_path: Path) -> None:
    training, judge = demo_candidates.digests(ROW.subject, METHOD, ROW.seed)
    today = replace(ROW, training=training, judge=judge)
    others = {"judge": "another", "training": "another", "method": "gone", "fraction": 0.3}
    rows = [today, *(replace(today, **{name: value}) for name, value in others.items())]  # type: ignore[arg-type]
    assert [row.counts for row in rows] == [True, False, False, False, False]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    assert demo_candidates.read_rows(tmp_path) == [today]


class Pencil:
    """Draws black pictures and counts what it trains.

    Args:
        trained: is told of every training.
    """

    def __init__(self, trained: list[tuple[str, int, int]]) -> None:
        self.trained = trained

    def fine_tune(self, subject: str, method: Method, steps: int, seed: int) -> Path:
        self.trained.append((subject, steps, seed))
        return Path()

    def draw(self, concept: Path, prompts: Sequence[Prompt], how: Sampling, noises: int, seed: int) -> torch.Tensor:
        return torch.zeros(len(prompts) * noises, 4, 4, 3)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What is trained, by a search that draws nothing."""
    made: list[tuple[str, int, int]] = []
    monkeypatch.setattr("study.studio.Studio", lambda folder: Pencil(made))
    monkeypatch.setattr(demo_choice, "load_judge", lambda: None)
    monkeypatch.setattr(demo_choice, "score", lambda judge, pictures, asked: Scores(*np.full((2, len(asked)), 0.5)))
    return made


def searched(folder: Path) -> list[Job]:
    """What is left of the search of one subject."""
    return missing(list(demo_choice.search_jobs(["zebra"])), demo_candidates.read_rows(folder))


def test_every_training_is_searched_once_and_again_when_the_judge_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[tuple[str, int, int]]
) -> None:
    every = [
        ("zebra", steps, seed)
        for seed in SEARCH.trainings
        for method in METHODS.values()
        for steps in reversed(method.checkpoints)
    ]
    demo_choice.do(searched(tmp_path), tmp_path / "rows.jsonl", float("inf"))
    assert trained == every and not searched(tmp_path)
    rows = demo_candidates.read_rows(tmp_path)
    assert len(rows) == len(every) * len(SCENES["zebra"])
    assert len(candidates_of(rows, SEARCH)) == len(rows) // len(SEARCH.trainings)
    monkeypatch.setattr(demo_candidates, "file_digest", lambda name: "another")
    assert len(searched(tmp_path)) == len(every)


def test_a_stopped_search_goes_on(tmp_path: Path, trained: list[tuple[str, int, int]]) -> None:
    demo_choice.do(searched(tmp_path), tmp_path / "rows.jsonl", 0)
    assert not trained
    demo_choice.do(searched(tmp_path)[:1], tmp_path / "rows.jsonl", float("inf"))
    assert len(searched(tmp_path)) == len(list(demo_choice.search_jobs(["zebra"]))) - 1


def test_finalists_are_trained_anew_from_other_seeds(tmp_path: Path, trained: list[tuple[str, int, int]]) -> None:
    jobs = list(demo_choice.final_jobs(of_all(SEARCH)))
    assert [(job.steps, job.seed) for job in jobs] == [(ROW.steps, seed) for seed in FINAL.trainings]
    assert not set(FINAL.trainings) & set(SEARCH.trainings) and FINAL.seed != SEARCH.seed
    demo_choice.do(jobs, tmp_path / "rows.jsonl", float("inf"))
    (candidate,) = candidates_of(demo_candidates.read_rows(tmp_path), FINAL)
    assert candidate.prompt == ROW.prompt


def test_finalists_of_one_training_are_drawn_together() -> None:
    prompts = [Prompt(demo_choice.KIND, scene).text for scene in SCENES["panda"]]
    rows = [*of_all(SEARCH), *of_all(SEARCH, prompt=prompts[1]), *of_all(SEARCH, prompt=prompts[2], steps=160)]
    jobs = list(demo_choice.final_jobs(rows))
    assert [(job.seed, job.steps, len(job.prompts)) for job in jobs] == [
        part for seed in FINAL.trainings for part in ((seed, METHOD.steps, 2), (seed, 160, 1))
    ]


def test_shares_are_whole_trainings() -> None:
    jobs = list(demo_choice.search_jobs(["zebra", "panda"]))
    shares = [demo_choice.share_of(jobs, number, 2) for number in range(2)]
    assert sorted(map(id, [*shares[0], *shares[1]])) == sorted(map(id, jobs))
    of_first, of_second = ({(job.subject, job.method, job.seed) for job in share} for share in shares)
    assert not of_first & of_second and len(of_first) == len(of_second)
