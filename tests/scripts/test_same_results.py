"""Two checkouts that make the same are told from two that do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import same_results


def concept(header: dict[str, str], data: str = "data") -> str:
    text = json.dumps({"__metadata__": header})
    return chr(len(text)) + 7 * "\0" + text + data


def demo_folder(folder: Path, seconds: int = 90, **changes: str) -> Path:
    made = {
        "concept.safetensors": concept({"a": "1", "b": "2"}),
        "sweep.png": "s",
        "summary.txt": f"likeness 0.9\n{seconds} s in all\n",
    }
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "seed_0_no_dci.png").write_text(changes.pop("picture", "p"))
    (folder / "index.html").write_text(f"It took {seconds} s.")
    for name, content in {**made, **{name.replace("_", "."): content for name, content in changes.items()}}.items():
        (folder / name).write_text(content)
    return folder


def test_the_time_it_took_makes_no_difference_and_everything_else_does(tmp_path: Path) -> None:
    first = same_results.digests(demo_folder(tmp_path / "first"))
    again = same_results.digests(demo_folder(tmp_path / "again", seconds=123))
    assert same_results.compare(first, again) == set()
    scores = same_results.digests(demo_folder(tmp_path / "scores", summary_txt="likeness 0.8\n90 s in all\n"))
    assert same_results.compare(first, scores) == {"summary.txt"}
    more = same_results.digests(demo_folder(tmp_path / "more", loss_png="l", sweep_png="t"))
    assert same_results.compare(first, more) == {"loss.png", "sweep.png"}
    picture = same_results.digests(demo_folder(tmp_path / "picture", picture="q"))
    assert same_results.compare(first, picture) == {"pictures/seed_0_no_dci.png"}


def test_a_concept_is_its_tensors_and_metadata_in_whatever_order_they_stand(tmp_path: Path) -> None:
    def digest(name: str, header: dict[str, str], data: str = "data") -> str:
        folder = demo_folder(tmp_path / name, concept_safetensors=concept(header, data))
        return same_results.digests(folder)["concept.safetensors"]

    first = digest("first", {"a": "1", "b": "2"})
    assert digest("turned", {"b": "2", "a": "1"}) == first
    assert digest("metadata", {"a": "1", "b": "3"}) != first
    assert digest("graph", {"a": "1", "b": "2", "prompt": "{}", "workflow": "{}"}) == first
    assert digest("tensors", {"a": "1", "b": "2"}, "more") != first


def test_a_run_that_left_nothing_is_not_the_same_as_another(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no concept\.safetensors"):
        same_results.digests(tmp_path / "nothing")
    half = demo_folder(tmp_path / "half")
    (half / "sweep.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no sweep\.png"):
        same_results.digests(half)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        same_results.main([str(tmp_path)])
    assert "is no checkout" in capsys.readouterr().err
