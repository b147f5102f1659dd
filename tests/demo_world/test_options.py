"""Options that are nonsense are refused in a line, before anything long begins."""

from __future__ import annotations

import argparse
from types import ModuleType

import pytest

from demo_world.commands import draw_pool, evaluate, train_autoencoder, train_clip, train_judge, train_model
from demo_world.commands.options import add_part, positive_float, positive_int, share


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        *((command, ("--minutes", text)) for command in (train_model, train_autoencoder) for text in ("0", "nan", "x")),
        (train_clip, ("--minutes", "inf")),
        *(
            (command, ("--batch", text))
            for command in (train_model, train_autoencoder, train_clip)
            for text in ("0", "x")
        ),
        (train_judge, ("--steps", "-1")),
        (train_model, ("--visits", "0")),
        (train_model, ("--visits", "-2")),
        (train_model, ("--companion-share", "1.5")),
        (train_model, ("--companion-share", "nan")),
        (train_model, ("--pool", "0")),
        (evaluate, ("--count", "0")),
        (evaluate, ("--model", "nowhere.safetensors")),
        *(
            (command, ("--part", *part))
            for command in (draw_pool, evaluate)
            for part in (("2", "2"), ("0", "0"), ("-1", "2"))
        ),
    ],
)
def test_nonsense_is_refused(
    command: ModuleType, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert arguments[0] in told and any(word in told for word in ("must be", "is no file"))


def test_what_makes_sense_is_taken() -> None:
    assert (positive_int("3"), positive_float("0.5"), share("0"), share("1")) == (3, 0.5, 0.0, 1.0)
    parser = argparse.ArgumentParser()
    add_part(parser, "chunk")
    assert parser.parse_args([]).part is None
    assert parser.parse_args(["--part", "1", "2"]).part == (1, 2)
