"""The demo command puts what was asked for into the shipped graphs."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import demo
import demo_graphs
import pytest

from demo_world.prompt_reading import Asked, asked_of
from demo_world.vocabulary import SUBJECTS


def given(**values: Any) -> argparse.Namespace:
    names = ("subject", "scene", "checkpoint", "images", "class_noun", "prompt", "class_images", "steps", "size")
    return argparse.Namespace(**{**dict.fromkeys(names), **values})


def inputs_of(graph: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(entry["inputs"] for entry in graph.values() if entry["class_type"] == kind)


def test_nothing_given_is_the_shipped_demo() -> None:
    assert demo_graphs.demo_graph(given()) == json.loads((demo_graphs.GRAPHS / "demo.json").read_text())


@pytest.mark.parametrize(("subject", "noun"), [("racing-car", "car"), ("parrot", "bird")])
def test_a_subject_brings_its_noun_and_another_auxiliary_noun(subject: str, noun: str) -> None:
    graph = demo_graphs.demo_graph(given(subject=subject, scene="in the snow", steps=7))
    assert demo_graphs.subject_of(graph) == subject and inputs_of(graph, "ICOTrainer")["steps"] == 7
    builder = inputs_of(graph, "AuxPromptBuilder")
    assert builder["prompt"] == f"photo of a V* {noun} in the snow" and builder["auxiliary_noun"] != noun


def test_the_auxiliary_noun_is_not_in_the_scene() -> None:
    shipped = inputs_of(demo_graphs.demo_graph(given()), "AuxPromptBuilder")["auxiliary_noun"]
    graph = demo_graphs.demo_graph(given(subject="racing-car", scene=f"with a {shipped} on grass"))
    assert inputs_of(graph, "AuxPromptBuilder")["auxiliary_noun"] not in (shipped, "car")


def test_what_to_type_next_is_another_subject_of_this_world() -> None:
    for subject, scene in demo.OTHER_SCENES:
        lines = demo.next_lines(given(), subject)
        assert len(lines) == 2 and subject not in lines[0][1]
        assert asked_of(f"photo of a V* car {scene}", subject) != Asked()
        assert subject in SUBJECTS
    assert "--checkpoint FILE" in lines[1][1]
    own = given(checkpoint=Path("my model.safetensors"), images=Path("photos"), class_noun="mug")
    (_, command), _ = demo.next_lines(own, None)
    assert shlex.split(command)[2:] == [
        *("--checkpoint", "my model.safetensors", "--images", "photos", "--class-noun", "mug"),
        *("--prompt", "a V* mug on the moon"),
    ]


def test_own_images_and_checkpoint_go_into_the_other_graph(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    graph = demo_graphs.own_graph(
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


def test_ones_own_graph_has_a_sweep_with_the_inputs_of_its_sampler(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    graph = demo_graphs.own_graph(given(checkpoint=Path("mine"), images=tmp_path, class_noun="mug"))
    assert demo_graphs.subject_of(graph) is None
    sampler, sweep = (dict(inputs_of(graph, kind)) for kind in ("DCISampler", "DCILambdaSweep"))
    assert sampler.pop("injection_strength") is not None
    more = {"vae": ["1", 2], "injection_strengths": demo_graphs.OWN_STRENGTHS, "seed_count": demo_graphs.OWN_SEEDS}
    assert sweep == sampler | more
    saved = {
        entry["inputs"]["filename_prefix"]: entry["inputs"]["images"]
        for entry in graph.values()
        if entry["class_type"] == "SaveImage"
    }
    assert saved["dci_sweep"] == ["sweep", 0] and saved["dci_image"] == ["sweep", 1]


@pytest.mark.parametrize("count", [None, 3, 0])
def test_class_images_are_drawn_first_unless_none_are_wanted(tmp_path: Path, count: int | None) -> None:
    (tmp_path / "a.png").touch()
    graph = demo_graphs.own_graph(given(checkpoint=Path("mine"), images=tmp_path, class_noun="mug", class_images=count))
    kinds = [entry["class_type"] for entry in graph.values()]
    wired = {"regularization_images", "regularization_captions"} & set(inputs_of(graph, "ICOTrainer"))
    assert len(wired) == (0 if count == 0 else 2) and ("DCIClassImages" in kinds) == (count != 0)
    shipped = json.loads((demo_graphs.GRAPHS / "train_and_generate.json").read_text())
    if count != 0:
        drawn = inputs_of(graph, "DCIClassImages")["count"]
        assert drawn == (count or inputs_of(shipped, "DCIClassImages")["count"])


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no images in"):
        demo_graphs.image_files(tmp_path)


def test_half_of_ones_own_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.py", "--checkpoint", "mine.safetensors"])
    with pytest.raises(SystemExit):
        demo.main()
    assert "belong together" in capsys.readouterr().err
