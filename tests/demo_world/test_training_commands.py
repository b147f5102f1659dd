"""The commands that train the demo model: what they write, what they go on from, and when they stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from demo_world.commands import train_autoencoder, train_model
from demo_world.model import MODEL_FILE, read_autoencoder, read_weights
from demo_world.pretrain_text import pretrain_text
from demo_world.renderer import Renderer
from demo_world.storage import CACHE_VARIABLE
from demo_world.training import Training

LOG = logging.getLogger("test_training_commands")


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Runs a command for two steps, in a world with one painting of each context."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(Training, "done", property(lambda self: self.step / 2))

    def run(command: object, *arguments: str) -> None:
        monkeypatch.setattr(command, "Renderer", lambda device: Renderer(device, variants=1))
        monkeypatch.setattr("sys.argv", ["command", *arguments])
        command.main()  # type: ignore[attr-defined]

    return run


def test_the_commands_train_an_autoencoder_and_a_model_with_it(
    small_world: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(train_autoencoder, "STATISTICS_BATCH", 1)
    small_world(train_autoencoder, "--batch", "1", "--statistics", "1")
    monkeypatch.setattr(train_model, "pretrain_text", lambda encoder, log: pretrain_text(encoder, log, 1, 4))
    small_world(train_model, "--from-scratch", "--batch", "2", "--pool", "2", "--companion-share", "1")
    trained = read_weights(tmp_path / "model.safetensors")
    assert trained.steps == 2
    autoencoder, preview = read_autoencoder(tmp_path / "autoencoder.safetensors")
    assert trained.preview == preview
    for name, value in autoencoder.state_dict().items():
        assert torch.equal(trained.autoencoder.state_dict()[name], value.half().float()), name


def test_the_command_goes_on_from_a_model(small_world: Callable[..., None], tmp_path: Path) -> None:
    before = read_weights()
    small_world(train_model, "--batch", "1", "--pool", "1", "--output", str(tmp_path / "better.safetensors"))
    after = read_weights(tmp_path / "better.safetensors")
    assert after.steps == before.steps + 2 and after.preview == before.preview
    moved = [
        float((value - after.model.state_dict()[name]).abs().max()) for name, value in before.model.state_dict().items()
    ]
    assert 0 < max(moved) < 0.01
    with pytest.raises(ValueError, match="Begin with the same"):
        small_world(train_model, "--from-scratch", "--batch", "1", "--pool", "1")
    with pytest.raises(ValueError, match="Begin with the same"):
        small_world(train_model, "--from", str(tmp_path / "better.safetensors"), "--batch", "1", "--pool", "1")


def test_a_training_whose_time_is_over_says_so_and_counts_no_step_twice(
    small_world: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(train_model, "training_log", lambda name: LOG)
    caplog.set_level(logging.INFO)
    small_world(train_model, "--batch", "1", "--pool", "1", "--output", str(tmp_path / "first.safetensors"))
    assert "are over" not in caplog.text
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(MODEL_FILE.read_bytes())
    monkeypatch.setattr(train_model, "LatentRing", None)  # nothing is drawn
    again = ("--from", str(moved), "--minutes", "3", "--output", str(tmp_path / "second.safetensors"))
    monkeypatch.setattr("sys.argv", ["command", *again])
    train_model.main()
    assert "the 3 minutes of" in caplog.text and "are over" in caplog.text
    first, second = (tmp_path / f"{name}.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert read_weights(second).steps == read_weights().steps + 2
