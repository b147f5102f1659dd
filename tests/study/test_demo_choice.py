"""The demo is chosen by what its dial does, on trainings and noises that the demo does not show."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from demo_world.vocabulary import SUBJECTS
from study import demo_choice
from study.cells import Scores
from study.demo_choice import FINAL_NOISES, FRACTIONS, METHODS, NOISES, Row, best, difference, finalists
from study.demo_scenes import SCENES
from study.plan import CONTEXT_RATE_FACTOR, Method, Sampling, dci
from study.prompts import KINDS, Prompt
from workbench.pack import ROOT

ROW = Row(
    subject="panda",
    prompt="photo of a V* bear with a guitar on a beach",
    learning_rate=2e-3,
    steps=100,
    fraction=0.3,
    plain_likeness=0.9,
    plain_obedience=0.1,
    likeness=(0.9, 0.8, 0.7),
    obedience=(0.1, 0.2, 0.4),
    change=10.0,
    plain_change=20.0,
)


def test_a_dial_turns_when_pictures_likeness_and_obedience_say_so() -> None:
    assert ROW.turns and ROW.gain == pytest.approx(0.3)
    assert not replace(ROW, change=9.9).is_seen  # less than half of what leaving DCI out changes
    assert not replace(ROW, likeness=(0.9, 0.8, 0.49)).is_seen  # the subject is gone
    likeness_rises, obedience_falls = replace(ROW, likeness=(0.6, 0.8, 0.7)), replace(ROW, obedience=(0.5, 0.2, 0.4))
    assert likeness_rises.is_seen and not likeness_rises.turns and not obedience_falls.turns


def test_the_best_turns_furthest_and_finalists_are_of_the_first_look() -> None:
    weaker, lost = replace(ROW, obedience=(0.1, 0.2, 0.2)), replace(ROW, likeness=(0.9, 0.8, 0.1))
    rises = replace(ROW, likeness=(0.6, 0.8, 0.7), obedience=(0.0, 0.5, 0.9))
    again = replace(ROW, noises=FINAL_NOISES)
    assert best([weaker, ROW, lost, rises]) is ROW and best([lost, rises]) is None
    assert finalists([weaker, ROW, lost, rises, again]) == [rises, ROW, weaker]


def test_differences_by_hand() -> None:
    black, white = torch.zeros(2, 3, 4, 4, 3), torch.ones(2, 3, 4, 4, 3)
    white[1] = 0.2
    assert difference(black, white, 0) == 255 and difference(black, white, 1) == pytest.approx(51)


def test_rows_are_kept_and_tabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(demo_choice.as_lines([ROW, replace(ROW, noises=FINAL_NOISES)]), encoding="utf-8")
    assert demo_choice.read_rows(path) == [ROW, replace(ROW, noises=FINAL_NOISES)]
    assert json.loads(path.read_text().splitlines()[0]) == json.loads(json.dumps(asdict(ROW)))
    monkeypatch.setattr(demo_choice, "TABLE", tmp_path / "table.csv")
    demo_choice.write_table(demo_choice.read_rows(path))
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["noises"] for line in lines] == [str(FINAL_NOISES), str(NOISES)]
    assert lines[0]["obedience λ 2"] == "0.400" and lines[0]["dial turns"] == "True"


def test_candidates_are_held_out_subjects_in_scenes_of_this_world() -> None:
    assert SCENES.keys() <= SUBJECTS.keys() and demo_choice.KIND in KINDS
    for subject, scenes in SCENES.items():
        assert all(scene.exemplar == subject and scene.companion for scene in scenes)


def test_the_shipped_demo_is_a_candidate_and_shows_other_noises() -> None:
    graph = json.loads((ROOT / "workflows" / "api" / "demo.json").read_text(encoding="utf-8"))
    nodes = {entry["class_type"]: entry["inputs"] for entry in graph.values()}
    trainer, sweep, subject = nodes["ICOTrainer"], nodes["DCILambdaSweep"], nodes["DCIDemoSubject"]["subject"]
    prompts = [Prompt(demo_choice.KIND, scene).text for scene in SCENES[subject]]
    assert nodes["AuxPromptBuilder"]["prompt"] in prompts
    (method,) = (each for each in METHODS if each.learning_rate == trainer["learning_rate"])
    assert trainer["steps"] in method.checkpoints
    assert trainer["context_learning_rate"] == CONTEXT_RATE_FACTOR * method.learning_rate
    assert sweep["active_fraction"] in FRACTIONS
    defaults = dci(FRACTIONS[0], 0.0)  # all else of the dial is as the pack's defaults say
    assert defaults.dci is not None and {name for name, _ in defaults.dci} == {"active_fraction", "injection_strength"}
    assert sweep["mask_preset"] == "calibrated" and sweep["share_noise"] is False
    assert trainer["seed"] != demo_choice.TRAINING_SEED
    shown = range(sweep["seed"], sweep["seed"] + sweep["seed_count"])
    assert not {demo_choice.NOISE_SEED, demo_choice.FINAL_SEED} & set(shown)


def test_the_shipped_demo_is_the_best_of_the_finalists() -> None:
    graph = json.loads((ROOT / "workflows" / "api" / "demo.json").read_text(encoding="utf-8"))
    nodes = {entry["class_type"]: entry["inputs"] for entry in graph.values()}
    with demo_choice.TABLE.open(encoding="utf-8") as file:
        final = [line for line in csv.DictReader(file) if line["noises"] == str(FINAL_NOISES)]
    turning = [line for line in final if line["dial turns"] == "True"]
    winner = max(turning, key=lambda line: float(line["obedience λ 2"]) - float(line["obedience λ -2"]))
    assert (winner["subject"], winner["prompt"]) == (
        nodes["DCIDemoSubject"]["subject"],
        nodes["AuxPromptBuilder"]["prompt"],
    )
    chosen = (
        nodes["ICOTrainer"]["learning_rate"],
        nodes["ICOTrainer"]["steps"],
        nodes["DCILambdaSweep"]["active_fraction"],
    )
    assert tuple(float(winner[name]) for name in ("learning rate", "steps", "T_a")) == chosen


def test_rows_count_while_what_made_them_is_there_and_those_of_the_first_search_always(tmp_path: Path) -> None:
    training, judge = demo_choice.digests(ROW.subject, demo_choice.METHOD_OF[ROW.learning_rate])
    today = replace(ROW, training=training, judge=judge)
    rows = [ROW, today, replace(today, judge="another"), replace(today, training="another")]
    assert [row.counts for row in rows] == [True, True, False, False]
    (tmp_path / "rows.jsonl").write_text(demo_choice.as_lines(rows), encoding="utf-8")
    assert demo_choice.all_rows(tmp_path) == [ROW, today]
    earlier = {name: value for name, value in asdict(ROW).items() if name not in ("training", "judge")}
    (tmp_path / "rows.jsonl").write_text(json.dumps(earlier), encoding="utf-8")
    assert demo_choice.all_rows(tmp_path) == [ROW]


class Pencil:
    """Draws black pictures and counts what it trains.

    Args:
        trained: is told of every training.
    """

    def __init__(self, trained: list[tuple[str, int]]) -> None:
        self.trained = trained

    def fine_tune(self, subject: str, method: Method, steps: int, seed: int) -> Path:
        self.trained.append((subject, steps))
        return Path()

    def draw(self, concept: Path, prompts: Sequence[Prompt], how: Sampling, noises: int, seed: int) -> torch.Tensor:
        return torch.zeros(len(prompts) * noises, 4, 4, 3)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is trained, by a search that draws nothing."""
    made: list[tuple[str, int]] = []
    monkeypatch.setattr("study.studio.Studio", lambda folder: Pencil(made))
    monkeypatch.setattr(demo_choice, "load_judge", lambda: None)
    monkeypatch.setattr(demo_choice, "score", lambda judge, pictures, asked: Scores(*np.full((2, len(asked)), 0.5)))
    return made


def test_every_checkpoint_is_searched_once_and_again_when_the_judge_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[tuple[str, int]]
) -> None:
    demo_choice.search(tmp_path, ["zebra"], 1)
    every = [steps for method in METHODS for steps in reversed(method.checkpoints)]
    assert trained == [("zebra", steps) for steps in every]
    rows = demo_choice.all_rows(tmp_path)
    assert len(rows) == len(every) * len(SCENES["zebra"]) and all(row.training and row.judge for row in rows)
    demo_choice.search(tmp_path, ["zebra"], 1)
    assert len(trained) == len(every)
    monkeypatch.setattr(demo_choice, "file_digest", lambda name: "another")
    demo_choice.search(tmp_path, ["zebra"], 1)
    assert len(trained) == 2 * len(every)


def test_a_finalist_drawn_again_replaces_its_rows(tmp_path: Path, trained: list[tuple[str, int]]) -> None:
    asked = replace(ROW, prompt=Prompt(demo_choice.KIND, SCENES["panda"][0]).text)
    (tmp_path / "panda.jsonl").write_text(demo_choice.as_lines([asked]), encoding="utf-8")
    for _ in range(2):
        demo_choice.draw_again(tmp_path, 0)
        (found,) = demo_choice.read_rows(tmp_path / "final_0.jsonl")
        assert (found.prompt, found.steps, found.noises) == (asked.prompt, ROW.steps, FINAL_NOISES)
    assert trained == [("panda", ROW.steps)] * 2


@pytest.mark.parametrize("number", [1, -1])
def test_a_finalist_that_is_not_there_is_told(tmp_path: Path, number: int) -> None:
    (tmp_path / "panda.jsonl").write_text(demo_choice.as_lines([ROW]), encoding="utf-8")
    with pytest.raises(SystemExit, match=f"There are 1 finalists, counted from 0, but --final {number} was given"):
        demo_choice.draw_again(tmp_path, number)
