"""What a server left becomes one folder: the page, the files it shows, and nothing of an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import demo_results
import pytest
from comfyui_dci.dci_core.concept.file import save_concept
from concept_files import small_concept
from demo_graphs import with_saved_references
from demo_page import NextLine
from demo_pages import PageReader
from demo_scores import scores_of
from PIL import Image
from torch import Tensor

from demo_world.judge import Judge, Reading
from demo_world.vocabulary import COLOURS, CONTEXTS, EXEMPLARS, NOUNS, STYLES
from workbench.comfy_client import RunFailed

COLUMNS = ("no DCI", "λ -2", "λ 0.5")
FACTS = demo_results.RunFacts(61.4, 30.2, "the CPU", (NextLine("Another prompt:", "python scripts/demo.py"),))


def own_graph() -> dict[str, Any]:
    sweep = {
        "injection_strengths": "-2, 0.5",
        "seed": 2**64 - 1,
        "sampler_name": "euler",
        "scheduler": "normal",
        "steps": 20,
        "cfg": 7.0,
        "active_fraction": 0.2,
        "mask_preset": "calibrated",
        "share_guidance": True,
    }
    graph = {
        "trainer": {"class_type": "ICOTrainer", "inputs": {"images": ["7", 0]}},
        "builder": {"class_type": "AuxPromptBuilder", "inputs": {"prompt": " a V* mug <on> the moon "}},
        "sweep": {"class_type": "DCILambdaSweep", "inputs": sweep},
    }
    return with_saved_references(graph)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A server's folder after a run with two seeds."""
    folder = tmp_path / "server"
    (folder / "output").mkdir(parents=True)
    concept = small_concept()
    info = replace(concept.info, class_noun="mug", placeholder="V*", history={"loss": [0.5, 0.25]})
    save_concept(replace(concept, info=info), folder / "models" / "dci_concepts" / "demo.safetensors")
    names = [f"dci_image_{number:05d}_.png" for number in range(1, 7)]
    names += ["dci_reference_00001_.png", "dci_reference_00002_.png", "dci_sweep_00001_.png", "dci_masks_00001_.png"]
    for number, name in enumerate(names):
        Image.new("RGB", (64, 64), (number * 20, 0, 0)).save(folder / "output" / name)
    (folder / "server.log").write_text("[INFO] DCI: first\n[INFO] DCI: 6 of 20 steps active\nbye\n", encoding="utf-8")
    return folder


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_references_are_saved_as_the_trainer_is_given_them() -> None:
    node = own_graph()["references"]
    assert node["class_type"] == "SaveImage" and node["inputs"] == {
        "images": ["7", 0],
        "filename_prefix": "dci_reference",
    }


def test_everything_lies_in_one_folder_and_the_page_leads_to_it(base: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    said = demo_results.collect(base, output, own_graph(), FACTS)
    seeds, names = (2**64 - 1, 0), ("no_dci", "lambda_-2", "lambda_0.5")
    assert files_of(output) == {
        *("index.html", "demo.png", "summary.txt", "concept.safetensors", "sweep.png", "masks.png"),
        *("pictures/reference_1.png", "pictures/reference_2.png"),
        *(f"pictures/seed_{seed}_{name}.png" for seed in seeds for name in names),
    }
    read = PageReader((output / "index.html").read_text(encoding="utf-8"))
    assert all((output / unquote(link)).exists() for link in read.values["href"])
    for text in ("Your mug, learned from 2 pictures", "123 steps in 30 s on the CPU · 1 min 1 s in all"):
        assert text in read.text
    assert "“a V* mug <on> the moon”" in read.text and "cfg 7, active fraction 0.2" in read.text
    assert read.tags.count("svg") == 1 and "table" not in read.tags  # the losses; only the demo world has a judge
    with Image.open(output / "pictures" / "seed_0_lambda_-2.png") as image:
        assert image.getpixel((0, 0)) == (4 * 20, 0, 0)  # the second row's second
    with Image.open(output / "demo.png") as image:
        assert image.width == 1600
    summary = (output / "summary.txt").read_text(encoding="utf-8")
    assert (
        "DCI: 6 of 20 steps active\nwithout scoring and drawing the page: 61 s in all\n" in summary
        and said.startswith(summary.rstrip("\n"))
    )
    assert str(output / "index.html") in said


def test_what_an_earlier_run_left_goes_and_what_is_not_ours_stays(base: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    mine = ("notes.txt", "pictures/mine.png", "pictures/seed_notes.txt")
    theirs = ("loss.png", "image.png", "pictures/seed_5_no_dci.png", "pictures/reference_9.png", "index.html")
    (output / "pictures").mkdir(parents=True)
    for name in (*mine, *theirs):
        (output / name).write_text("old")
    demo_results.collect(base, output, own_graph(), FACTS)
    assert set(mine) <= files_of(output) and not set(theirs[:-1]) & files_of(output)
    assert (output / "index.html").read_text(encoding="utf-8") != "old"
    first = {name: (output / name).read_bytes() for name in files_of(output)}
    demo_results.collect(base, output, own_graph(), FACTS)
    assert {name: (output / name).read_bytes() for name in files_of(output)} == first


@pytest.mark.parametrize("part", ["html", "picture", "scores_of"])
def test_the_old_page_stays_until_the_new_one_is_made(
    part: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, graph = tmp_path / "out", judged_graph()
    demo_results.collect(base, output, graph, FACTS, cast("Judge", SeesItsRed()))
    old = {name: (output / name).read_bytes() for name in files_of(output)}

    def fail(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(demo_results, part, fail)
    (base / "output" / "dci_image_00001_.png").write_bytes((base / "output" / "dci_image_00002_.png").read_bytes())
    with pytest.raises(OSError, match="no room"):
        demo_results.collect(base, output, graph, FACTS, cast("Judge", SeesItsRed()))
    assert {name: (output / name).read_bytes() for name in files_of(output)} == old


def test_a_run_without_a_concept_is_told_and_the_old_page_stays(base: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("old")
    (base / "models" / "dci_concepts" / "demo.safetensors").unlink()
    with pytest.raises(RunFailed, match="no concept in .*dci_concepts"):
        demo_results.collect(base, tmp_path / "out", own_graph(), FACTS)
    assert files_of(tmp_path / "out") == {"index.html"}


def test_on_another_drive_the_link_to_the_readme_is_quoted_once(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_drive(*_: object) -> str:
        raise ValueError("path is on mount 'D:'")

    monkeypatch.setattr(demo_results.os.path, "relpath", another_drive)
    monkeypatch.setattr(demo_results, "ROOT", Path("/a b/100%"))
    demo_results.collect(base, tmp_path / "out", own_graph(), FACTS)
    read = PageReader((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert "file:///a%20b/100%25/README.md" in read.values["href"]


def judged_graph() -> dict[str, Any]:
    graph = own_graph() | {"subject": {"class_type": "DCIDemoSubject", "inputs": {"subject": "racing-car"}}}
    graph["builder"]["inputs"]["prompt"] = "photo of a V* car with a cup"
    return graph


class SeesItsRed:
    """A judge that reads every probability off how red a picture is."""

    def read(self, pictures: Tensor) -> Reading:
        red = pictures[:, 0, 0, 0]

        def rows(count: int, least: float) -> Tensor:
            return (red + least)[:, None].expand(-1, count)

        sizes = (len(EXEMPLARS), len(NOUNS), 1 + len(NOUNS), len(CONTEXTS), len(STYLES), len(COLOURS))
        return Reading(*(rows(size, least) for size, least in zip(sizes, (0, 0, 0.1, 0.3, 0, 0))))


def test_scores_are_means_over_the_rows() -> None:
    def row(reds: Sequence[int]) -> list[Image.Image]:
        return [Image.new("RGB", (8, 8), (red, 0, 0)) for red in reds]

    judge = cast("Judge", SeesItsRed())
    points = scores_of(
        judge, [row((0, 51, 102)), row((51, 51, 0))], COLUMNS, "photo of a V* bear with a cup in space", "panda"
    )
    assert [point.label for point in points] == list(COLUMNS) and [p.plain for p in points] == [True, False, False]
    # by hand: a picture obeys by (red + 0.1)·(red + 0.3); the reds are 0 and 0.2, 0.2 twice, 0.4 and 0
    for point, red, obeyed in zip(points, (0.1, 0.2, 0.2), (0.09, 0.15, 0.19)):
        assert point.likeness == pytest.approx(red, abs=1e-6)
        assert point.asked == pytest.approx({"cup": red + 0.1, "in space": red + 0.3}, abs=1e-6)
        assert point.obedience == pytest.approx(obeyed, abs=1e-6)


def test_the_summary_of_a_judged_run_has_a_line_a_column(base: Path, tmp_path: Path) -> None:
    said = demo_results.collect(base, tmp_path / "out", judged_graph(), FACTS, cast("Judge", SeesItsRed()))
    lines = [line.split() for line in said.splitlines()]
    assert ["likeness", "obedience", "cup"] in lines
    # reds of the columns: pictures 0 and 3, 1 and 4, 2 and 5, each 20 / 255 redder than the one before
    assert [line for line in lines if line[:2] in (["no", "DCI"], ["λ", "-2"])] == [
        ["no", "DCI", "0.12", "0.22", "0.22"],
        ["λ", "-2", "0.20", "0.30", "0.30"],
    ]
    assert "A racing car, learned from 2 pictures" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
