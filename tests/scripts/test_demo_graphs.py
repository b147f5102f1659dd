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
    return argparse.Namespace(**{**dict.fromkeys(names), "cpu": False, "output": demo.OUTPUT, **values})


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


def test_the_shipped_scene_never_has_the_subjects_noun_in_it() -> None:
    for subject, noun in demo_graphs.subject_nouns().items():
        prompt = demo_graphs.prompt_of(demo_graphs.demo_graph(given(subject=subject)))
        assert demo_graphs.words_of(prompt).count(noun) == 1 and asked_of(prompt, subject) != Asked()


@pytest.mark.parametrize(
    ("scene", "auxiliary"),
    [("with a Dog, on grass", "bird"), ("with a dog, a bird and a Cat", "auto"), ("in the snow", "dog")],
)
def test_the_auxiliary_noun_is_none_of_the_scenes_words_however_they_are_written(scene: str, auxiliary: str) -> None:
    builder = inputs_of(demo_graphs.demo_graph(given(subject="racing-car", scene=scene)), "AuxPromptBuilder")
    assert builder["auxiliary_noun"] == auxiliary and builder["prompt"] == f"photo of a V* car {scene}"


def test_an_empty_scene_is_not_the_shipped_one() -> None:
    graph = demo_graphs.demo_graph(given(subject="racing-car", scene=""))
    assert inputs_of(graph, "AuxPromptBuilder")["prompt"] == "photo of a V* car"


NO_TENSORS = (2).to_bytes(8, "little") + b"{}"  # a whole safetensors file


def own(folder: Path, **values: Any) -> argparse.Namespace:
    """One's own checkpoint and an image, as they may be given."""
    (folder / "my photos").mkdir(exist_ok=True)
    (folder / "my photos" / "a.png").touch()
    (folder / "mine.safetensors").write_bytes(NO_TENSORS)
    paths = {"checkpoint": folder / "mine.safetensors", "images": folder / "my photos"}
    return given(**{**paths, "class_noun": "mug", **values})


def test_what_to_type_next_is_another_subject_and_scene_of_this_world() -> None:
    for subject in demo_graphs.subject_nouns():
        for scene in (None, *demo_graphs.OTHER_SCENES):
            graph = demo_graphs.demo_graph(given(subject=subject, scene=scene))
            (_, line), (_, own_line) = demo.next_lines(given(subject=subject, scene=scene), graph)
            command = shlex.split(line)
            assert command[:3] == ["python", "scripts/demo.py", "--subject"] and command[4] == "--scene"
            other, proposed = command[3], command[5]
            assert other in SUBJECTS and other != subject and len(command) == 6
            assert proposed not in demo_graphs.prompt_of(graph)
            assert asked_of(f"photo of a V* thing {proposed}", other) != Asked()
            assert own_line == "python scripts/demo.py --checkpoint FILE --images FOLDER --class-noun cat"


def test_what_to_type_next_keeps_the_options_of_this_run(tmp_path: Path) -> None:
    where = {"cpu": True, "output": Path("my results")}
    (_, command), (_, other) = demo.next_lines(given(steps=0, **where), demo_graphs.demo_graph(given()))
    assert shlex.split(command)[6:] == ["--steps", "0", "--cpu", "--output", "my results"]
    assert other.startswith("python scripts/demo.py --cpu --checkpoint FILE")
    mine = own(tmp_path, class_images=0, steps=9, size=256, **where)
    (_, command), (_, other) = demo.next_lines(mine, demo_graphs.own_graph(mine))
    assert shlex.split(command)[2:] == [
        *("--checkpoint", str(mine.checkpoint), "--images", str(mine.images), "--class-noun", "mug"),
        *("--prompt", "a V* mug on the moon", "--class-images", "0", "--steps", "9", "--size", "256"),
        *("--cpu", "--output", "my results"),
    ]
    assert other == "python scripts/demo.py --cpu"


def test_the_prompt_just_drawn_is_not_proposed(tmp_path: Path) -> None:
    mine = own(tmp_path, prompt="a V* mug on the moon")
    (_, command), (_, other) = demo.next_lines(mine, demo_graphs.own_graph(mine))
    assert shlex.split(command)[8:] == ["--prompt", "a V* mug on a beach"] and other == "python scripts/demo.py"


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


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--checkpoint mine.safetensors", "belong together"),
        ("--class-noun mug", "belong together"),
        ("--checkpoint mine.safetensors --images photos --class-noun=", "belong together"),
        ("--prompt x --size 512 --class-images 0", "--prompt, --size, --class-images: for your own checkpoint only"),
        ("OWN --subject parrot --scene=", "--subject, --scene: for the demo model only"),
        ("--checkpoint gone --images photos --class-noun mug", "--checkpoint is gone, but there is no such file"),
        (
            "--checkpoint mine.safetensors --images gone --class-noun mug",
            "--images is gone, but there is no such folder",
        ),
        ("--steps 0", "--steps is 0; give 1 or more"),
        ("OWN --size 0", "--size is 0; give 1 or more"),
        ("OWN --prompt mug", '--prompt is "mug"; it needs V* and the class noun, such as "a V* mug on a beach"'),
        ("OWN --prompt=", "it needs V* and the class noun"),
        ("--checkpoint text.safetensors --images photos --class-noun mug", "damaged or no safetensors file"),
        ("--output notes.txt", "notes.txt is a file; give a folder"),
        ("OWN --output notes.txt/results", "notes.txt is a file; give a folder"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_anything_starts(
    line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("notes.txt").touch()
    Path("text.safetensors").write_text("hello, I am text")
    Path("mine.safetensors").write_bytes(NO_TENSORS)
    line = line.replace("OWN", "--checkpoint mine.safetensors --images photos --class-noun mug")
    monkeypatch.setattr(sys, "argv", ["demo.py", *line.split()])
    monkeypatch.setattr(demo, "start_inside", lambda comfyui: pytest.fail("it started"))
    monkeypatch.setattr(demo, "run_demo", lambda graph, given: pytest.fail("it started"))
    monkeypatch.setattr(demo, "get_comfyui", lambda: pytest.fail("it looked for ComfyUI"))
    with pytest.raises(SystemExit):
        demo.main()
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("output", ["results", "new/results"])
def test_what_can_be_followed_is_not_refused(output: str, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    more = {"steps": 3, "cpu": True, "output": tmp_path / output}
    assert demo.refusal(given()) is None
    assert demo.refusal(given(subject="parrot", scene="in space", **more)) is None
    assert demo.refusal(own(tmp_path, prompt="a V* mug", size=256, class_images=0, **more)) is None
