"""What trainings have left is listed with sizes; what is deleted is what was chosen, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training import kept_runs as kept_runs_module
from comfyui_dci.dci_core.training.kept_runs import BUSY_FOR, kept_runs, title_of
from comfyui_dci.dci_core.training.tidying import TidyAction, TidyPlan, tidy
from left_runs import leave_run

NOW = time.time()
DAY = 24 * 3600.0


class NoCalendar:
    """A calendar that ends before every date."""

    @staticmethod
    def fromtimestamp(time: float) -> None:
        raise OverflowError


def day(then: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(then))


def names(root: Path) -> set[str]:
    return {file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three runs: a finished one of long ago, an interrupted one of long ago, a finished one of yesterday."""
    root = tmp_path / "dci_concepts" / "training"
    leave_run(root, "car", NOW - 40 * DAY, 100, finished=500)
    leave_run(root, "cat", NOW - 50 * DAY, 100, 200)
    leave_run(root, "dog", NOW - DAY, finished=300)
    (root.parent / "car.safetensors").write_bytes(b"saved")
    return root


def test_runs_are_listed_newest_first_with_subject_steps_date_and_sizes(root: Path) -> None:
    before = names(root.parent)
    heading, *lines = tidy([root, root.parent / "missing"], TidyPlan(), NOW).splitlines()
    assert (
        heading == "3 runs, 10 MB, 10 MB of it states; not written to for 30 days: 2 runs, 8.0 MB, 8.0 MB of it states"
    )
    assert lines == [
        f"dog · 300 steps · {day(NOW - DAY)} · training/dog-dddddddddddd: 2.0 MB, 2.0 MB of it states",
        f"car · 500 steps · {day(NOW - 40 * DAY)} · training/car-cccccccccccc: 4.0 MB, 4.0 MB of it states; would be deleted",
        f"cat · step 100 · {day(NOW - 50 * DAY)} · training/cat-aaaaaaaaaaaa: 4.0 MB, 4.0 MB of it states; would be deleted",
    ]
    assert names(root.parent) == before


def test_states_go_and_every_concept_stays(root: Path) -> None:
    before = names(root)
    heading, *lines = tidy([root], TidyPlan(TidyAction.STATES), NOW).splitlines()
    assert heading == "8.0 MB freed: states of 2 runs not written to for 30 days"
    assert "car-cccccccccccc: 4.0 MB freed" in lines[0] and lines[-1].startswith("left: 3 runs, 2.0 MB, 2.0 MB of it")
    gone = {name for name in before if name.endswith(".resume") and not name.startswith("dog")}
    assert names(root) == before - gone and len(gone) == 4
    assert tidy([root], TidyPlan(TidyAction.STATES, 0), NOW).startswith("2.0 MB freed: states of 3 runs")


def test_runs_go_and_what_is_not_theirs_stays(root: Path) -> None:
    (root / "cat-aaaaaaaaaaaa" / "notes.txt").write_text("mine")
    (root / "cat-aaaaaaaaaaaa" / "favourite.safetensors").write_text("mine")
    (root / "car-000000000000").symlink_to(root / "car-cccccccccccc")
    leave_run(root / "backup", "car", NOW - 90 * DAY, finished=500)
    (root / "car-cccccccccccc" / "finished.safetensors").rename(root / "lost.safetensors")
    foreign = leave_run(root, "dog", NOW - 90 * DAY, finished=100).rename(root / "dog-000000000000")
    (root / "empty-000000000001").mkdir()
    theirs = {"cat-aaaaaaaaaaaa/notes.txt", "cat-aaaaaaaaaaaa/favourite.safetensors", "lost.safetensors"}
    theirs |= {name for name in names(root) if name.startswith(("backup", foreign.name))}
    report = tidy([root], TidyPlan(TidyAction.RUNS), NOW)
    assert report.startswith("8.0 MB freed: all files of 2 runs") and report.endswith("left: no runs")
    assert names(root) == theirs and (root.parent / "car.safetensors").is_file()
    assert not (root / "car-cccccccccccc").exists() and (root / "car-000000000000").is_symlink()


@pytest.mark.parametrize("text", ["CAT", "cat-aaaaaaaaaaaa", "step 100", day(NOW - 50 * DAY)])
def test_a_text_chooses_among_the_runs(text: str, root: Path) -> None:
    report = tidy([root], TidyPlan(TidyAction.RUNS, run=f" {text} "), NOW)
    assert report.startswith("4.0 MB freed: all files of 1 run (of 3) not written to for 30 days")
    assert {run.folder.name for run in kept_runs(root, NOW)} == {"car-cccccccccccc", "dog-dddddddddddd"}


def test_a_run_that_another_program_may_be_training_is_left_alone(root: Path) -> None:
    being_written = root / "car-cccccccccccc" / f".dci-01234567-1-{'0' * 32}.tmp"
    being_written.touch()
    leave_run(root, "cat", NOW - BUSY_FOR + 60, 300)
    before = names(root)
    shown = tidy([root], TidyPlan(older_than_days=0), NOW)
    assert shown.count("; may be training at this moment") == 2 and shown.count("; would be deleted") == 1
    told = tidy([root], TidyPlan(TidyAction.RUNS, 0), NOW)
    assert told.count(": left alone, it may be training at this moment") == 2
    assert names(root) == {name for name in before if not name.startswith("dog")}
    os.utime(being_written, (NOW - 40 * DAY,) * 2)
    assert "car-cccccccccccc: 4.0 MB freed" in tidy([root], TidyPlan(TidyAction.STATES), NOW)
    assert not being_written.exists()


def test_a_file_that_cannot_be_deleted_is_named_and_the_others_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delete = Path.unlink

    def refuse(file: Path, missing_ok: bool = False) -> None:
        if file.name == "finished.safetensors":
            raise PermissionError(13, "Permission denied")
        delete(file, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    report = tidy([root], TidyPlan(TidyAction.RUNS, run="car"), NOW)
    assert "4.0 MB freed; finished.safetensors could not be deleted: Permission denied" in report
    assert [file.name for file in (root / "car-cccccccccccc").iterdir()] == ["finished.safetensors"]


def test_what_a_concept_of_a_run_is_comes_from_its_header_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: object) -> None:
        raise AssertionError("tensors are read")

    monkeypatch.setattr("comfyui_dci.dci_core.tensor_file.read_tensors", never)
    folder = leave_run(root, "cat", NOW, 100, finished=500)
    (folder / "finished.safetensors").rename(folder / "best.safetensors")
    (folder / "finished.safetensors").write_bytes(b"half")
    titles = [title_of(folder / f"{name}.safetensors") for name in ("best", "step_000100", "finished", "gone")]
    told = [f"cat · best, step 500 · {day(NOW)}", f"cat · step 100 · {day(NOW)}"]
    assert [title and title[1] for title in titles] == [*told, None, None]
    monkeypatch.setattr(kept_runs_module, "datetime", NoCalendar)
    title = title_of(folder / "best.safetensors")
    assert title is not None and title[1] == "cat · best, step 500 · unknown date"


def test_a_plan_outside_its_range_is_refused() -> None:
    with pytest.raises(UserInputError, match="older_than_days must be between 0 and 100000, but got -1"):
        TidyPlan(older_than_days=-1)
