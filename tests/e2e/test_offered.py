"""What a real ComfyUI server offers of the pack before anything is run: nodes, help pages, templates."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from graphs import small

from workbench.comfy_client import RunFailed
from workbench.comfy_server import ComfyServer
from workbench.pack import ROOT

NODES = json.loads((ROOT / "tests" / "golden" / "nodes.json").read_text(encoding="utf-8"))


def test_the_pack_loads_without_error(server: ComfyServer) -> None:
    log = server.log.read_text()
    assert "IMPORT FAILED" not in log and "Error while calling comfy_entrypoint" not in log
    assert re.search(r"[\d.]+ seconds: .*ComfyUI-DCI", log)


def test_the_nodes_are_offered_under_their_category_with_tooltips(server: ComfyServer) -> None:
    offered = server.get("/object_info")
    assert NODES and set(offered) >= set(NODES)
    for name in NODES:
        info = offered[name]
        assert info["category"].startswith("DCI/") and info["description"]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert set(inputs) == set(NODES[name]["inputs"])
        assert all(len(entry) > 1 and entry[1].get("tooltip") for entry in inputs.values())
    assert offered["DCISampler"]["output"] == ["LATENT", "DCI_MASKS"]
    assert offered["DCISampler"]["input"]["required"]["sampler_name"] == offered["KSampler"]["input"]["required"][
        "sampler_name"
    ] or (
        offered["DCISampler"]["input"]["required"]["sampler_name"][1]["options"]
        == offered["KSampler"]["input"]["required"]["sampler_name"][0]
    )


@pytest.mark.parametrize("file", ["{}/en.md", "{}.md"])
def test_every_node_has_a_help_page_in_english_and_for_other_languages(server: ComfyServer, file: str) -> None:
    for name in NODES:
        page = server.get_bytes(f"/extensions/ComfyUI-DCI/docs/{file.format(name)}").decode()
        assert page.startswith(f"# {server.get(f'/object_info/{name}')[name]['display_name']}")


def test_the_templates_are_listed_and_served(server: ComfyServer) -> None:
    listed = server.get("/workflow_templates")
    names = next(names for pack, names in listed.items() if "DCI" in pack)
    files = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert sorted(names) == files and files
    for name in names:
        graph = server.get(f"/api/workflow_templates/ComfyUI-DCI/{quote(name)}.json")
        offered = server.get("/object_info")
        used = {node["type"] for node in graph["nodes"]} - {"MarkdownNote", "Note"}
        assert used <= set(offered)


def test_a_name_outside_the_folder_is_refused_when_queued(server: ComfyServer) -> None:
    with pytest.raises(RunFailed, match="cannot be a file in models/dci_concepts"):
        server.run(small("train_and_generate", DCISaveConcept={"name": "../../x"}))
