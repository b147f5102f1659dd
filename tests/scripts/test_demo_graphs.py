"""The demo command puts what was asked for into the shipped graphs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import demo
import demo_results
import pytest


def given(**values: Any) -> argparse.Namespace:
    names = ("subject", "scene", "checkpoint", "images", "class_noun", "prompt", "class_images", "steps", "size")
    return argparse.Namespace(**{**dict.fromkeys(names), **values})


def inputs_of(graph: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(entry["inputs"] for entry in graph.values() if entry["class_type"] == kind)


def test_nothing_given_is_the_shipped_demo() -> None:
    assert demo.demo_graph(given()) == demo.json.loads((demo.GRAPHS / "demo.json").read_text())


@pytest.mark.parametrize(("subject", "noun"), [("teal_fox", "dog"), ("badged_lizard", "turtle")])
def test_a_subject_brings_its_noun_and_another_auxiliary_noun(subject: str, noun: str) -> None:
    graph = demo.demo_graph(given(subject=subject, scene="in the snow", steps=7))
    assert inputs_of(graph, "DCIDemoSubject")["subject"] == subject and inputs_of(graph, "ICOTrainer")["steps"] == 7
    builder = inputs_of(graph, "AuxPromptBuilder")
    assert builder["prompt"] == f"photo of a V* {noun} in the snow" and builder["auxiliary_noun"] != noun


def test_the_auxiliary_noun_is_not_in_the_scene() -> None:
    graph = demo.demo_graph(given(subject="teal_fox", scene="with a cat on sand"))
    assert inputs_of(graph, "AuxPromptBuilder")["auxiliary_noun"] == "bird"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            "photo of a V* car with an umbrella at night",
            {"umbrella": ("second_noun", "umbrella"), "at night": ("context", "at night")},
        ),
        ("photo of a V* car with an umbrella", {"umbrella": ("second_noun", "umbrella")}),
        ("photo of a V* car on a red carpet", {"on a red carpet": ("context", "on a red carpet")}),
        ("photo of a V* car with", {"plain backdrop": ("context", "")}),
        ("photo of a V* car with a zebra on sand", {"on sand": ("context", "on sand")}),
    ],
)
def test_what_obedience_means_follows_from_the_prompt(prompt: str, expected: dict[str, tuple[str, str]]) -> None:
    names = {"second_noun": ("", "umbrella", "cat"), "context": ("", "on a red carpet", "on sand", "at night")}
    assert demo_results._asked(prompt, names) == expected


def test_own_images_and_checkpoint_go_into_the_other_graph(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    graph = demo.own_graph(
        given(checkpoint=Path("/models/mine.safetensors"), images=tmp_path, class_noun="mug", size=256)
    )
    assert inputs_of(graph, "CheckpointLoaderSimple")["ckpt_name"] == "mine.safetensors"
    assert [entry["inputs"]["image"] for entry in graph.values() if entry["class_type"] == "LoadImage"] == [
        "a.JPG",
        "b.png",
    ]
    assert inputs_of(graph, "BatchImagesNode") == {"images.image0": ["image0", 0], "images.image1": ["image1", 0]}
    noun = next(node for node, entry in graph.items() if entry["class_type"] == "PrimitiveString")
    assert graph[noun]["inputs"] == {"value": "mug"}
    for kind in ("DCIClassImages", "ICOTrainer"):
        assert inputs_of(graph, kind)["class_noun"] == [noun, 0] and inputs_of(graph, kind)["resolution"] == 256
    assert inputs_of(graph, "AuxPromptBuilder")["prompt"] == "a V* mug in times square"
    assert demo_results.scores([], graph) == []  # only the demo world has a judge


@pytest.mark.parametrize("count", [None, 3, 0])
def test_class_images_are_drawn_first_unless_none_are_wanted(tmp_path: Path, count: int | None) -> None:
    (tmp_path / "a.png").touch()
    graph = demo.own_graph(given(checkpoint=Path("mine"), images=tmp_path, class_noun="mug", class_images=count))
    kinds = [entry["class_type"] for entry in graph.values()]
    wired = {"regularization_images", "regularization_captions"} & set(inputs_of(graph, "ICOTrainer"))
    assert len(wired) == (0 if count == 0 else 2) and ("DCIClassImages" in kinds) == (count != 0)
    shipped = demo.json.loads((demo.GRAPHS / "train_and_generate.json").read_text())
    if count != 0:
        drawn = inputs_of(graph, "DCIClassImages")["count"]
        assert drawn == (count or inputs_of(shipped, "DCIClassImages")["count"])


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no images in"):
        demo.image_files(tmp_path)


def test_half_of_ones_own_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.py", "--checkpoint", "mine.safetensors"])
    with pytest.raises(SystemExit):
        demo.main()
    assert "belong together" in capsys.readouterr().err


def test_the_terminal_gets_one_line_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {"0": "DCIClassImages", "1": "ICOTrainer", "2": "SaveImage"}
    show = demo._Terminal({node: {"class_type": kind} for node, kind in kinds.items()})
    show("executing", {"node": "0"})
    show("text", {"text": "class image 7 of 9, 8 s left"})
    show("progress", {"node": "0", "value": 3, "max": 25})  # of the picture that is being drawn
    show("executing", {"node": "1"})
    for step in (1, 2):
        show("progress", {"node": "1", "value": step, "max": 2})
        show("text", {"text": f"step {step} of 2, loss 0.5"})
    for node in ("2", None):
        show("executing", {"node": node})
    assert capsys.readouterr().out == (
        "  DCIClassImages  class image 7 of 9, 8 s left\n  ICOTrainer  step 2 of 2, loss 0.5\n  SaveImage\n"
    )
