"""What a queued graph says of a node: the same inputs make the same signature, and a picture's lineage is its samplers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from comfy_execution.utils import CurrentNodeContext
from comfyui_dci.dci_core.sampling.masks import Origin
from comfyui_dci.nodes.apply_dci import ApplyDCI
from comfyui_dci.nodes.dci_sampler import DCISampler
from comfyui_dci.nodes.host.executing import executing_origin, executing_place, output_type
from comfyui_dci.nodes.host.lineage import lineage_of, signature_of
from running_graph import register, running


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ApplyDCI, DCISampler)


def two_passes() -> dict[str, Any]:
    """One Apply DCI under two KSamplers, the second after an upscale, and a visualizer on the first picture."""

    def sampler(latent: str, seed: int) -> dict[str, Any]:
        wires = {"model": ["dci", 0], "positive": ["text", 0], "latent_image": [latent, 0]}
        return {"class_type": "KSampler", "inputs": {**wires, "seed": seed, "cfg": 7.0}}

    return {
        "base": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},
        "dci": {"class_type": "DCIApply", "inputs": {"model": ["base", 0], "injection_strength": 0.0}},
        "text": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["base", 1], "text": "a cat"}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "first": sampler("empty", 1),
        "larger": {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["first", 0], "scale_by": 2.0}},
        "second": sampler("larger", 2),
        "picture": {"class_type": "VAEDecode", "inputs": {"samples": ["first", 0], "vae": ["base", 2]}},
        "final": {"class_type": "VAEDecode", "inputs": {"samples": ["second", 0], "vae": ["base", 2]}},
        "masks": {"class_type": "MaskVisualizer", "inputs": {"masks": ["dci", 1], "image": ["picture", 0]}},
    }


def names(graph: dict[str, Any], node: str = "masks") -> list[tuple[str, bool]]:
    lineage = lineage_of(graph, node, output_type)
    assert lineage is not None and all(each.signature == signature_of(graph, each.node) for each in lineage)
    return [(each.node, each.has_model) for each in lineage]


def test_the_lineage_of_a_picture_is_the_way_it_came_nearest_first() -> None:
    graph = two_passes()
    assert names(graph) == [("picture", False), ("first", True), ("empty", False)]
    graph["masks"]["inputs"]["image"] = ["final", 0]
    way = ["final", "second", "larger", "first", "empty"]
    assert names(graph) == [(node, node in ("first", "second")) for node in way]
    lineage = lineage_of(graph, "masks", output_type) or []
    assert [each.sources for each in lineage] == [(node,) for node in way[1:]] + [()]


def test_nodes_that_are_given_any_model_are_known_as_samplers() -> None:
    graph = two_passes()
    graph["second"]["inputs"]["model"] = ["base", 0]
    graph["guider"] = {"class_type": "CFGGuider", "inputs": {"model": ["base", 0]}}
    wires = {"guider": ["guider", 0], "latent_image": ["second", 0]}
    graph["third"] = {"class_type": "SamplerCustomAdvanced", "inputs": wires}
    graph["final"]["inputs"]["samples"] = ["third", 0]
    graph["masks"]["inputs"]["image"] = ["final", 0]
    extras = {"CFGGuider": "GUIDER", "SamplerCustomAdvanced": "LATENT"}  # of nodes that a server loads
    lineage = lineage_of(graph, "masks", lambda node, slot: extras.get(node) or output_type(node, slot)) or []
    assert [(each.node, each.sampler, each.has_model) for each in lineage] == [
        ("final", "", False),
        ("third", "SamplerCustomAdvanced", False),
        ("second", "KSampler", False),
        ("larger", "", False),
        ("first", "KSampler", True),
        ("empty", "", False),
    ]


def test_a_picture_does_not_come_through_models_texts_and_controls() -> None:
    graph = two_passes()
    graph["net"] = {"class_type": "ControlNetApply", "inputs": {"conditioning": ["text", 0], "image": ["final", 0]}}
    graph["plain"] = copy.deepcopy(graph["first"])
    graph["plain"]["inputs"] |= {"model": ["base", 0], "positive": ["net", 0]}
    graph["picture"]["inputs"]["samples"] = ["plain", 0]
    assert names(graph) == [("picture", False), ("plain", False), ("empty", False)]


def test_what_another_pack_hands_on_in_types_of_its_own_is_followed() -> None:
    graph = two_passes()
    graph["bus"] = {"class_type": "a node of another pack", "inputs": {"latent": ["first", 0]}}
    graph["picture"]["inputs"]["samples"] = ["bus", 3]
    assert names(graph) == [("picture", False), ("bus", False), ("first", True), ("empty", False)]


def test_the_masks_of_dci_sampler_come_from_the_sampler_itself() -> None:
    graph = two_passes()
    graph["first"]["class_type"] = "DCISampler"
    graph["masks"]["inputs"]["masks"] = ["first", 1]
    assert ("first", True) in names(graph)


def test_a_node_out_of_the_graph_or_without_links_has_no_lineage() -> None:
    graph = two_passes()
    assert lineage_of(graph, "1.0.2", output_type) is None and lineage_of({}, "masks", output_type) is None
    graph["masks"]["inputs"]["image"] = "a file"
    assert lineage_of(graph, "masks", output_type) is None


@pytest.mark.parametrize(
    ("node", "entry", "value"), [("first", "seed", 3), ("dci", "injection_strength", 1.0), ("text", "text", "a dog")]
)
def test_whatever_a_sampler_is_given_changes_its_signature_and_no_others(node: str, entry: str, value: Any) -> None:
    graph, other = two_passes(), two_passes()
    other[node]["inputs"][entry] = value
    assert signature_of(graph, "first") != signature_of(other, "first")
    assert signature_of(graph, "empty") == signature_of(other, "empty")
    other[node]["inputs"][entry] = graph[node]["inputs"][entry]
    assert signature_of(graph, "first") == signature_of(other, "first")


def test_a_signature_does_not_depend_on_ids_on_order_and_on_what_comes_after() -> None:
    graph, copied = two_passes(), two_passes()
    renamed = {"7": copied["base"], **{name: node for name, node in reversed(copied.items()) if name != "base"}}
    for node in renamed.values():
        wires = {
            key: ["7", value[1]] if value[:1] == ["base"] else value
            for key, value in node["inputs"].items()
            if isinstance(value, list)
        }
        node["inputs"] = dict(reversed((node["inputs"] | wires).items()))
    renamed["masks"]["inputs"]["overlay"] = 1.0
    assert signature_of(renamed, "second") == signature_of(graph, "second")
    swapped = two_passes()
    swapped["first"]["inputs"]["latent_image"], swapped["first"]["inputs"]["positive"] = ["text", 0], ["empty", 0]
    assert signature_of(swapped, "first") != signature_of(graph, "first")


def test_the_running_node_is_signed_by_the_graph_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = two_passes()
    assert executing_origin() is None and executing_place() == 0
    with CurrentNodeContext("job", "first", 2):
        assert executing_origin() == Origin("first", 2, None)  # without a server
        assert executing_place() == 2
    with running(monkeypatch, graph, "first"):
        assert executing_origin() == Origin("first", 0, signature_of(graph, "first"))
    with running(monkeypatch, graph, "1.0.2"):
        assert executing_origin() == Origin("1.0.2", 0, None)  # a node that another one unfolded


def test_the_outputs_of_node_classes_are_known_by_type() -> None:
    assert [output_type("CheckpointLoaderSimple", slot) for slot in range(4)] == ["MODEL", "CLIP", "VAE", ""]
    assert output_type("a node of another pack", 0) == ""
