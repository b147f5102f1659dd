"""While a server works, the terminal shows what it works at."""

from __future__ import annotations

import time
from typing import Any

import pytest
from demo_terminal import Terminal, pictures_of

SWEEP = {"class_type": "DCILambdaSweep", "inputs": {"injection_strengths": "-2, 0, 2", "seed_count": 2}}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def terminal(clock: Clock, **kinds: Any) -> Terminal:
    graph = {node: kind if isinstance(kind, dict) else {"class_type": kind} for node, kind in kinds.items()}
    return Terminal(graph, clock)


def test_the_terminal_gets_one_line_a_node(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    titled = {"class_type": "SaveImage", "_meta": {"title": "Save grid"}}
    show = terminal(clock, a="DCIClassImages", b="ICOTrainer", c=titled)
    show("executing", {"node": "a"})
    show("text", {"text": "class image 7 of 9, 8 s left"})
    show("progress", {"node": "a", "value": 3, "max": 25})  # of the picture that is being drawn
    show("executing", {"node": "b"})
    for step in (1, 2):
        show("progress", {"node": "b", "value": step, "max": 2})
        show("text", {"text": f"started\nstep {step} of 2, loss 0.5"})
    clock.now += 7
    for node in ("c", None):
        show("executing", {"node": node})
    assert capsys.readouterr().out == (
        "  DCIClassImages  class image 7 of 9, 8 s left\n  ICOTrainer  step 2 of 2, loss 0.5\n  Save grid\n"
    )
    assert show.seconds["ICOTrainer"] == 7


def test_a_sweep_counts_its_pictures_and_tells_the_time_left(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    assert pictures_of(SWEEP["inputs"]) == 8  # type: ignore[arg-type]
    show = terminal(clock, a=SWEEP)
    show("executing", {"node": "a"})
    for picture in range(8):
        for step in range(1, 5):
            clock.now += 1
            show("progress", {"node": "a", "value": step, "max": 4})
        show("text", {"text": "λ 2: 24 layers patched"})
        if picture == 3:
            clock.now += 20
            show.beat()
    show("executing", {"node": None})
    assert capsys.readouterr().out == "  DCILambdaSweep  picture 4 of 8, 16 s left\n  DCILambdaSweep  picture 8 of 8\n"


def test_an_empty_text_says_nothing(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    show = terminal(clock, a="ICOTrainer")
    for event in (("executing", {"node": "a"}), ("text", {"text": ""}), ("executing", {"node": None})):
        show(*event)
    assert capsys.readouterr().out == "  ICOTrainer\n"


def test_silence_is_broken(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    show = terminal(clock, a="VAEDecode")
    show.beat()
    show.show_stage("Starting ComfyUI …")
    for _ in range(45):
        clock.now += 1
        show.beat()
    assert capsys.readouterr().out == "Starting ComfyUI …\nStarting ComfyUI …  20 s\nStarting ComfyUI …  40 s\n"
    show("executing", {"node": "a"})
    clock.now += 19
    show.beat()
    assert capsys.readouterr().out == ""
    clock.now += 1
    show.beat()
    assert capsys.readouterr().out == "  VAEDecode  20 s\n"
    show.show_end("It is done.")
    clock.now += 60
    show.beat()
    assert capsys.readouterr().out == "  VAEDecode\nIt is done.\n"


def test_on_a_terminal_the_last_line_is_written_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    show = terminal(clock, a="KSampler")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show.show_stage("Starting")
    clock.now += 3
    show.beat()
    show("executing", {"node": "a"})
    show("progress", {"node": "a", "value": 1, "max": 4})
    show("executing", {"node": None})
    over = "\r\x1b[K"
    assert capsys.readouterr().out == (
        f"{over}Starting  0 s{over}Starting  3 s{over}Starting\n{over}  KSampler  0 s"
        f"{over}  KSampler  1 of 4, 0 s left{over}  KSampler  1 of 4, 0 s left\n"
    )


def test_the_heart_beats_only_while_it_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo_terminal.SECONDS_BETWEEN_BEATS", 0.01)
    monkeypatch.setattr("demo_terminal.SECONDS_OF_SILENCE", 0.03)
    with Terminal({}) as show:
        show.show_stage("Starting")
        show._ended.wait(0.3)
    assert "Starting  0 s" in capsys.readouterr().out
    time.sleep(0.1)
    assert not show._heart.is_alive() and capsys.readouterr().out == ""
