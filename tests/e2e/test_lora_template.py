"""The template lora_dial on a real server: a LoRA of other people, no concept of ours."""

from __future__ import annotations

from typing import Any

import pytest
from graphs import CHECKPOINT, SIZE, shipped, small
from server_files import make_small_lora
from server_pictures import saved_pictures

from workbench.comfy_server import ComfyServer

pytestmark = pytest.mark.usefixtures("queue_is_empty")


def test_the_graph_turns_the_dial_on_a_lora(server: ComfyServer) -> None:
    models = server.base / "models"
    (loader,) = [node["inputs"] for node in shipped("lora_dial").values() if node["class_type"] == "LoraLoader"]
    make_small_lora(models / "checkpoints" / CHECKPOINT, models / "loras" / loader["lora_name"])
    graph = small("lora_dial", DCILambdaSweep={"steps": 6, "active_fraction": 0.3})
    texts: dict[str, list[str]] = {}

    def listen(kind: str, data: dict[str, Any]) -> None:
        if kind == "text":
            texts.setdefault(data["node"], []).append(data["text"])

    entry = server.run(graph, listen)
    single = saved_pictures(server, entry, "27")
    assert len(single) == 4 and all(picture.shape == (SIZE, SIZE, 3) for picture in single)
    assert len({picture.tobytes() for picture in single}) == 4
    (grid,) = saved_pictures(server, entry, "26")
    assert grid.shape[0] > SIZE and grid.shape[1] > 4 * SIZE
    (said,) = texts["21"]
    assert "; auxiliary prompt: a " in said and "sks" not in said
    assert "λ 0: DCI on in steps 1 to 2 of 6; the scene had" in texts["24"][-1]
