"""The trial of other packs wires what it says it wires, and its verdicts are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pack_cases
import pack_models
import pytest
import try_packs
from pack_cases import CASES
from pack_graphs import dci, sampling_graph, training_graph
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from try_packs import Outcome

ROOT = Path(__file__).resolve().parents[2]

CASE = CASES[0]
DRAWING = next(case for case in CASES if case.picture)


def outcome(value: float, **facts: Any) -> Outcome:
    return Outcome(np.array([1.0, value]), **facts)


PLAIN, ALONE, OURS, TOGETHER = outcome(0.0), outcome(0.1), outcome(0.2), outcome(0.3)
REFUSED = Outcome(error="take it out", refused=True)
CRASHED = Outcome(error="IndexError")


def ancestors(graph: dict[str, Any], name: str) -> list[str]:
    found, waiting = [], [name]
    while waiting:
        links = [value for value in graph[waiting.pop()]["inputs"].values() if isinstance(value, list)]
        found += [link[0] for link in links]
        waiting += [link[0] for link in links]
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.pack} {case.use}")
def test_graphs_are_whole_and_hold_the_pack_and_dci_in_the_order_asked_for(case: pack_cases.Case) -> None:
    alone = sampling_graph(1, case.step)
    assert case.node in {entry["class_type"] for entry in alone.values()} and "dci" not in alone
    before, after = sampling_graph(1, case.step, dci(0.3)), sampling_graph(1, dci(0.3), case.step)
    for graph in (alone, before, after):
        assert set(ancestors(graph, "save")) < set(graph)
        assert not case.picture or "sampler" in ancestors(graph, case.picture)
    if "model" in alone.get("pack", {"inputs": {}})["inputs"]:
        assert "pack" in ancestors(before, "dci") and "dci" in ancestors(after, "pack")


def test_our_own_nodes_are_given_what_they_offer() -> None:
    offered = json.loads((ROOT / "tests" / "golden" / "nodes.json").read_text())
    demo = json.loads((ROOT / "workflows" / "api" / "demo.json").read_text())
    graphs = [training_graph(demo), *(sampling_graph(1, dci(0.3), case.step) for case in CASES)]
    for entry in (entry for graph in graphs for entry in graph.values() if entry["class_type"] in offered):
        inputs = offered[entry["class_type"]]["inputs"]
        assert {name for name, facts in inputs.items() if not facts["optional"]} <= set(entry["inputs"]) <= set(inputs)
    assert demo["10"]["inputs"]["steps"] != graphs[0]["10"]["inputs"]["steps"]  # the shipped graph is left alone


def test_a_subject_that_is_named_by_words_needs_no_concept_of_ours() -> None:
    named = [
        graph for case in CASES if "subject" in (graph := sampling_graph(1, dci(0.3), case.step))["positive"]["inputs"]
    ]
    assert len(named) == 3
    for graph in named:
        assert not {entry["class_type"] for entry in graph.values()} & {"DCIApplyConcept", "DCILoadConcept"}
        assert graph["positive"]["inputs"]["subject"] in graph["positive"]["inputs"]["prompt"]


def test_the_embedding_of_the_subject_says_nothing_of_a_concept(tmp_path: Path) -> None:
    (tmp_path / "dci_concepts").mkdir()
    tensors = {"layer.diff": np.ones((2, 2)), "clip_l": np.ones((3, 4))}
    save_file(tensors, tmp_path / "dci_concepts" / "try_packs.safetensors", {"class_noun": "car"})
    try_packs.offer_as_stock_files(tmp_path)
    assert set(load_file(tmp_path / "loras" / "try_packs.safetensors")) == set(tensors)
    with safe_open(tmp_path / "embeddings" / "try_packs.safetensors", "np") as file:
        assert list(file.keys()) == ["clip_l"] and not file.metadata()


def test_every_run_samples_again() -> None:
    assert sampling_graph(1) != sampling_graph(2)


def test_alone() -> None:
    assert try_packs.judge_alone(CASE, ALONE, PLAIN) == "works"
    assert try_packs.judge_alone(CASE, PLAIN, PLAIN) == "changes nothing"
    assert try_packs.judge_alone(CASE, CRASHED, PLAIN) == "fails: IndexError"  # which is not ours
    assert try_packs.judge_alone(DRAWING, outcome(0.0, picture=True), PLAIN) == "works"
    assert try_packs.judge_alone(DRAWING, PLAIN, PLAIN) == "changes nothing"


def test_equal_means_every_bit() -> None:
    assert try_packs.judge_equal(ALONE, outcome(0.1)) == "equal"
    assert try_packs.judge_equal(ALONE, outcome(0.1 + 1e-12)) == "DIFFERS"
    assert try_packs.judge_equal(CRASHED, ALONE) == "CRASH: IndexError"


@pytest.mark.parametrize(
    ("both", "verdict"),
    [
        (TOGETHER, "both act"),
        (outcome(0.1 + 1e-5), "DCI SILENTLY OFF"),  # rounding
        (outcome(0.1, inactive=True), "DCI off, and says so"),
        (OURS, "PACK SILENTLY OFF"),
        (REFUSED, "refused: take it out"),
        (CRASHED, "CRASH: IndexError"),
    ],
)
def test_together(both: Outcome, verdict: str) -> None:
    assert try_packs.judge_together(CASE, both, ALONE, OURS) == verdict


def test_a_pack_that_draws_acts_when_it_has_drawn() -> None:
    assert try_packs.judge_together(DRAWING, outcome(0.2, picture=True), ALONE, OURS) == "both act"
    assert try_packs.judge_together(DRAWING, OURS, ALONE, OURS) == "PACK SILENTLY OFF"


def test_a_refusal_is_no_failure_of_the_trial() -> None:
    good = ["both act", "equal", "refused: x", "DCI off, and says so", "fails: x", "does not load: x", "–"]
    bad = ["CRASH: x", "DIFFERS", "DCI SILENTLY OFF", "PACK SILENTLY OFF"]
    assert [cell.startswith(try_packs.BAD) for cell in good + bad] == [False] * len(good) + [True] * len(bad)


def test_the_host_s_reason_is_told_for_a_pack_that_does_not_load() -> None:
    log = f"[WARNING] Cannot import /tmp/custom_nodes/{CASE.pack} module for custom nodes: no | name\nnext"
    row = try_packs.not_loaded(CASE, log)
    assert row[:3] == (CASE.pack, CASE.use, "does not load: no \\| name") and len(row) == len(try_packs.COLUMNS)
    assert try_packs.not_loaded(CASE, "")[2] == f"does not load: offers no {CASE.node}"
    lines = try_packs.table([row]).splitlines()
    assert len(lines) == 3 and lines[0].count("|") == lines[1].count("|") == lines[2].replace("\\|", "").count("|")


def test_a_picture_of_one_colour_is_not_drawn(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    picture = Image.new("RGB", (4, 4), (7, 7, 7))
    picture.save(file)
    assert not try_packs.is_drawn(file)
    picture.putpixel((1, 1), (7, 8, 7))
    picture.save(file)
    assert try_packs.is_drawn(file)


def test_the_adapter_fits_the_layers_it_will_find() -> None:
    shapes, tensors = pack_models.layer_shapes(), pack_models.adapter()
    found = [(n, place) for n, place in enumerate(pack_models.PLACES) if place in shapes]
    assert len(found) >= 4
    for n, place in found:
        assert tuple(tensors[f"ip_adapter.{2 * n + 1}.to_k_ip.weight"].shape) == shapes[place]
