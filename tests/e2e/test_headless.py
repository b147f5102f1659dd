"""docs/use/headless.md on a real server: its script, and each way in which a run can end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_install import cache_folder
from comfyui_dci.dci_core.concept.file import load_concept
from graphs import CHECKPOINT, SIZE, small
from markdown_pages import ROOT, code_blocks
from PIL import Image
from server_files import draw_references, make_small_checkpoint

from workbench.comfy_client import ComfyClient, RunFailed
from workbench.comfy_server import ComfyServer

PAGE = Path("docs/use/headless.md")


@pytest.fixture(scope="module")
def remote(
    comfyui: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[ComfyServer]:
    """A server that keeps its concepts where it hands them out, by the page's lines."""
    base = tmp_path_factory.mktemp("remote")
    checkpoint = make_small_checkpoint(comfyui, Path(sys.executable), cache_folder())
    (base / "models" / "checkpoints").mkdir(parents=True)
    (base / "models" / "checkpoints" / checkpoint.name).symlink_to(checkpoint)
    (lines,) = code_blocks(PAGE, "yaml")
    paths = base / "extra.yaml"
    paths.write_text(lines.replace("/path/to/ComfyUI", str(base)))
    arguments = ["--extra-model-paths-config", str(paths)]
    with ComfyServer(comfyui, Path(sys.executable), base, arguments, not pytestconfig.getoption("--gpu")) as running:
        yield running
        queue = running.get("/queue")
        assert not queue["queue_running"] and not queue["queue_pending"]


class Recorder(ComfyClient):
    """A client that keeps what the host answers."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.answers: list[Any] = []

    def post(self, path: str, body: Any, kind: str = "application/json") -> Any:
        self.answers.append(super().post(path, body, kind))
        return self.answers[-1]


def test_the_pages_script_trains_draws_and_fetches(remote: ComfyServer, tmp_path: Path) -> None:
    script, _ = code_blocks(PAGE, "python")
    script = script.replace("127.0.0.1:8188", remote.address).replace("sd15.safetensors", CHECKPOINT)
    shutil.copy(ROOT / "workbench" / "comfy_client.py", tmp_path)
    (tmp_path / "train_and_generate.json").write_text(json.dumps(small("train_and_generate")))
    (tmp_path / "photos").mkdir()
    draw_references(tmp_path / "photos")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "-X", "utf8", "script.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stderr
    assert "ICOTrainer: step 4 of 4" in ran.stdout and "DCISaveConcept: saved my_cat.safetensors" in ran.stdout
    with Image.open(tmp_path / "picture_0.png") as picture:
        assert picture.size == (SIZE, SIZE)
    concept = load_concept(tmp_path / "my_cat.safetensors")
    assert concept.info.class_noun == "cat" and concept.info.steps == 4
    assert json.loads(concept.graph["prompt"])["21"]["inputs"]["prompt"] == "a V* cat on a beach"
    kept = remote.base / "output" / "dci_concepts" / "my_cat.safetensors"
    assert (tmp_path / "my_cat.safetensors").read_bytes() == kept.read_bytes()


def test_an_upload_never_replaces_another_picture(remote: ComfyServer, tmp_path: Path) -> None:
    file = tmp_path / "Kätzchen 1.png"
    names = []
    for colour in ("red", "red", "blue"):
        Image.new("RGB", (8, 8), colour).save(file)
        names.append(remote.upload(file))
    assert names == ["Kätzchen 1.png", "Kätzchen 1.png", "Kätzchen 1 (1).png"]
    assert (remote.base / "input" / names[2]).read_bytes() == file.read_bytes()


def test_a_graph_that_is_refused_says_why(remote: ComfyServer) -> None:
    with pytest.raises(RunFailed, match=r"nothing\.safetensors"):
        remote.run(small("train", CheckpointLoaderSimple={"ckpt_name": "nothing.safetensors"}))
    with pytest.raises(RunFailed, match="Prompt has no outputs"):
        remote.run({})


def test_a_graph_of_which_a_part_is_refused_does_not_go_on_without_it(remote: ComfyServer) -> None:
    graph = plain_sampling()
    graph["30"] = {"class_type": "LoadImage", "inputs": {"image": "not there.png"}}
    graph["31"] = {"class_type": "SaveImage", "inputs": {"images": ["30", 0], "filename_prefix": "other"}}
    client = Recorder(remote.address)
    with pytest.raises(RunFailed, match=r"not there\.png"):
        client.run(graph)
    assert client.answers[0]["prompt_id"] and client.answers[0]["node_errors"].keys() == {
        "30"
    }  # the host took the rest
    assert remote.get("/queue") == {"queue_running": [], "queue_pending": []}


def test_what_a_node_says_when_it_fails_is_told_with_its_name(remote: ComfyServer) -> None:
    graph = small("generate", AuxPromptBuilder={"prompt": "a V* toy"}, DCILoadConcept={"name": "broken.safetensors"})
    (remote.base / "output" / "dci_concepts" / "broken.safetensors").write_text("no concept")
    with pytest.raises(RunFailed, match=r"^DCILoadConcept: broken\.safetensors cannot be used: it is truncated"):
        remote.run(graph)


def test_an_interrupted_run_is_told_or_returned(remote: ComfyServer) -> None:
    graph = plain_sampling()

    def cancel(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and data["node"] == "24":
            remote.post("/interrupt", {})

    with pytest.raises(RunFailed, match="^KSampler: interrupted$"):
        remote.run(graph, cancel)
    assert remote.run_to_any_end(graph, cancel)["status"]["messages"][-1][0] == "execution_interrupted"


def plain_sampling() -> dict[str, Any]:
    """A run of the stock sampler that nobody would wait for."""
    graph = small("generate")
    given = {name: graph["24"]["inputs"][name] for name in ("seed", "cfg", "sampler_name", "scheduler", "denoise")}
    encoded = {"positive": ["22", 0], "negative": ["22", 0], "latent_image": ["23", 0]}
    sampler = {"class_type": "KSampler", "inputs": {**given, **encoded, "model": ["1", 0], "steps": 5000}}
    negative = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}}
    return {name: graph[name] for name in ("1", "23", "25", "26")} | {"22": negative, "24": sampler}
