"""A server that is killed while it trains: what was reached is on disk, and the next server goes on from it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.file import load_concept
from graphs import SIZE, shipped, small

from workbench.comfy_server import ComfyServer

STEPS = 12


class Killed(BaseException):
    """The server is gone; nobody answers any more."""


def graph(name: str, **inputs: Any) -> dict[str, Any]:
    trainer = {"steps": STEPS, "resolution": SIZE, "checkpoint_every": 2, "batch_size": 1, "ema_decay": 0.9, **inputs}
    return small("train", ICOTrainer=trainer, DCISaveConcept={"name": name, "precision": "float32"})


def prepare(base: Path, like: ComfyServer) -> None:
    (base / "models" / "checkpoints").mkdir(parents=True)
    for file in (like.base / "models" / "checkpoints").iterdir():
        if file.is_file():
            (base / "models" / "checkpoints" / file.name).symlink_to(file.resolve())
    shutil.copytree(like.base / "input", base / "input")


def server_in(base: Path, like: ComfyServer) -> ComfyServer:
    return ComfyServer(like.comfyui, Path(sys.executable), base, [] if like.cpu else ["--deterministic"], like.cpu)


def assert_same(one: Concept, other: Concept) -> None:
    assert one.info == other.info
    for ours, theirs in ((one.deltas, other.deltas), (one.tokens, other.tokens)):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_killed_training_loses_nothing_and_goes_on_bit_for_bit(server: ComfyServer, tmp_path: Path) -> None:
    server.run(graph("uninterrupted"))
    expected = load_concept(server.base / "models" / "dci_concepts" / "uninterrupted.safetensors")

    def kill(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and data.get("node") == "10" and data["value"] >= 5:
            os.kill(first.process_id, signal.SIGKILL)
            raise Killed

    prepare(tmp_path, server)
    with server_in(tmp_path, server) as first, pytest.raises(Killed):
        first.run(graph("resumed"), kill)
    (folder,) = (tmp_path / "models" / "dci_concepts" / "training").iterdir()
    reached = max(int(file.stem.split("_")[1]) for file in folder.glob("step_*.safetensors"))
    checkpoint = load_concept(folder / f"step_{reached:06d}.safetensors")
    assert 4 <= checkpoint.info.steps == reached < STEPS
    assert checkpoint.info.history["loss"] == expected.info.history["loss"][:reached]

    values: list[int] = []
    with server_in(tmp_path, server) as second:
        listed = second.get("/models/dci_concepts")
        assert f"training/{folder.name}/step_{reached:06d}.safetensors" in listed
        assert not any(name.endswith(".resume") for name in listed)

        def watch(kind: str, data: dict[str, Any]) -> None:
            if kind == "progress" and data.get("node") == "10":
                values.append(data["value"])

        second.run(graph("resumed"), watch)
        assert_same(load_concept(tmp_path / "models" / "dci_concepts" / "resumed.safetensors"), expected)
        assert min(value for value in values if value) > reached and max(values) == STEPS
        values.clear()
        second.post("/free", {"free_memory": True, "unload_models": True})
        second.run(graph("reused"), watch)
        assert_same(load_concept(tmp_path / "models" / "dci_concepts" / "reused.safetensors"), expected)
        assert not [value for value in values if 0 < value < STEPS]


def test_the_shipped_graph_needs_none_of_the_new_inputs() -> None:
    """Graphs that were saved before an input existed must still be taken by the host."""
    assert "checkpoint_every" not in shipped("train")["10"]["inputs"]
