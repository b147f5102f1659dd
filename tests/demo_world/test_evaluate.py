"""An evaluation draws whole batches, so that any count can use what was drawn for another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from demo_world.commands import evaluate
from demo_world.placement import PICTURE_PX
from demo_world.storage import CACHE_VARIABLE


class Sampler:
    """Stands in for a model: grey pictures; remembers how many captions it was asked for at a time."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def draw(self, captions: list[str], seed: int) -> Tensor:
        self.asked.append(len(captions))
        return torch.full((len(captions), 3, PICTURE_PX, PICTURE_PX), 100, dtype=torch.uint8)


def test_any_count_uses_the_batches_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    sampler = Sampler()
    monkeypatch.setattr(evaluate, "load_sampler", lambda path, steps, cfg, fast: sampler)
    (model := tmp_path / "model.safetensors").write_bytes(b"weights")
    for count in (15, 20, 7):
        monkeypatch.setattr("sys.argv", ["evaluate", "--model", str(model), "--count", str(count)])
        evaluate.main()
    assert sampler.asked == [10, 10]
    (folder,) = (tmp_path / "gate").iterdir()
    batches = sorted(folder.glob("*.safetensors"))
    assert [path.name for path in batches] == ["0000.safetensors", "0010.safetensors"]
    assert all(len(load_file(path)["pictures"]) == 10 for path in batches)
    for count in (15, 20, 7):
        told = json.loads((folder / f"gate-{count}.json").read_text())
        assert told["captions"] == count
        assert {line["pictures"] for line in told["lines"] if line["what"] in ("noun", "context")} == {count}
        assert (folder / f"samples-{count}.jpg").is_file()
