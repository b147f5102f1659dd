"""The shipped graphs: each template says the same as its API twin, and the train graphs train as fresh nodes do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.dci_core.training.presets import PRESETS, PresetName
from comfyui_dci.nodes.aux_prompt_builder import AuxPromptBuilder
from comfyui_dci.nodes.class_images import ClassImages
from comfyui_dci.nodes.concepts import ApplyConcept
from comfyui_dci.nodes.dci_sampler import DCISampler
from comfyui_dci.nodes.host.demo_model import find_subject
from comfyui_dci.nodes.ico_trainer import ICOTrainer
from comfyui_dci.nodes.lambda_sweep import LambdaSweep
from node_runs import defaults

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
TEMPLATES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
API = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))
DEMO = "demo"
"""Its nodes have the values of the demo model, not those of fresh nodes."""
LORA_DIAL = "lora_dial"
"""Needs no concept of ours."""


def api(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())


def template(name: str) -> dict[str, Any]:
    """Return the nodes of a template by id, each with its type, its widgets and the inputs that are wired."""
    graph = json.loads((WORKFLOWS / f"{name}.json").read_text())
    ends = {link: [str(node), slot] for link, node, slot, *_ in graph["links"]}
    nodes = {}
    for node in graph["nodes"]:
        inputs = node.get("inputs", [])
        names = [entry["widget"]["name"] for entry in inputs if "widget" in entry]
        for place, widget in enumerate(names):
            if widget == "seed" and node["widgets_values"][place + 1] in ("fixed", "randomize"):
                names.insert(place + 1, "what becomes of the seed after a run")
        nodes[str(node["id"])] = {
            "type": node["type"],
            "widgets": dict(zip(names, node.get("widgets_values") or [], strict=False)),
            "wires": {entry["name"]: ends[entry["link"]] for entry in inputs if entry.get("link") is not None},
            "outputs": [set(output["links"] or []) for output in node.get("outputs", [])],
        }
    for link, node, slot, *_ in graph["links"]:
        assert link in nodes[str(node)]["outputs"][slot]
    return {key: node for key, node in nodes.items() if node["type"] != "MarkdownNote"}


def graphs_with(kind: str) -> list[str]:
    """Return the names of the API graphs that hold a node of a type."""
    return [name for name in API if any(node["class_type"] == kind for node in api(name).values())]


def widgets_of(kind: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the widgets of each node of a type in all templates and in all API graphs but the demo's."""
    shown = [
        node["widgets"]
        for name in TEMPLATES
        if name != DEMO
        for node in template(name).values()
        if node["type"] == kind
    ]
    given = [
        {entry: value for entry, value in node["inputs"].items() if not isinstance(value, list)}
        for name in API
        if name != DEMO
        for node in api(name).values()
        if node["class_type"] == kind
    ]
    return shown, given


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_and_its_api_twin_say_the_same(name: str) -> None:
    shown, twin = template(name), api(name)
    assert {key: node["type"] for key, node in shown.items()} == {key: node["class_type"] for key, node in twin.items()}
    for key, node in twin.items():
        wires = {entry: value for entry, value in node["inputs"].items() if isinstance(value, list)}
        assert shown[key]["wires"] == wires, key
        widgets = {entry: value for entry, value in node["inputs"].items() if entry not in wires}
        assert {entry: shown[key]["widgets"][entry] for entry in widgets} == widgets, key


@pytest.mark.parametrize("name", graphs_with("DCIClassImages"))
def test_training_is_wired_to_class_images_of_the_same_noun_and_model(name: str) -> None:
    graph = api(name)
    (trainer,) = [node["inputs"] for node in graph.values() if node["class_type"] == "ICOTrainer"]
    (drawing,) = [key for key, node in graph.items() if node["class_type"] == "DCIClassImages"]
    assert trainer["regularization_images"] == [drawing, 0] and trainer["regularization_captions"] == [drawing, 1]
    same = ("model", "clip", "vae", "class_noun")
    assert {key: trainer[key] for key in same} == {key: graph[drawing]["inputs"][key] for key in same}
    noun = graph[trainer["class_noun"][0]]
    assert noun["class_type"] == "PrimitiveString" and noun["inputs"] == {"value": "toy"}


@pytest.mark.parametrize("node", [ICOTrainer, ClassImages], ids=["ICOTrainer", "DCIClassImages"])
def test_the_train_graphs_use_what_fresh_nodes_have(node: Any) -> None:
    usual = {name: value for name, value in defaults(node).items() if name != "class_noun"}
    kind = node.define_schema().node_id
    shown, given = widgets_of(kind)
    assert len(shown) >= 1 and len(given) >= 2
    for widgets in shown:
        assert {name: value for name, value in widgets.items() if name != "class_noun"} == usual
    for widgets in given:
        assert widgets == {name: usual[name] for name in widgets}
    assert kind != "ICOTrainer" or (usual["steps"], usual["preset"]) == (-1, "with_dci")


@pytest.mark.parametrize("node", [DCISampler, ApplyConcept], ids=["DCISampler", "DCIApplyConcept"])
def test_the_generate_graphs_use_what_fresh_nodes_have(node: Any) -> None:
    usual, kind = defaults(node), node.define_schema().node_id
    shown, given = widgets_of(kind)
    assert len(shown) >= 1 and len(given) >= 2
    for widgets in shown:
        assert {name: value for name, value in widgets.items() if name in usual} == usual
    for widgets in given:
        assert widgets == {name: usual[name] for name in widgets}
        assert kind != "DCISampler" or len(widgets) == len(usual)


@pytest.mark.parametrize("name", graphs_with("AuxPromptBuilder"))
def test_prompts_name_the_subject(name: str) -> None:
    """By the words of ``subject``, or by the placeholder with the class noun behind it."""
    builders = [node["inputs"] for node in api(name).values() if node["class_type"] == "AuxPromptBuilder"]
    subjects = [node["inputs"]["subject"] for node in api(name).values() if node["class_type"] == "DCIDemoSubject"]
    concept = f"V* {find_subject(subjects[0]).class_noun if subjects else 'toy'}"
    assert builders and all(f"a {given.get('subject') or concept} " in given["prompt"] for given in builders)


def test_the_lora_graph_takes_the_subject_of_a_lora_and_turns_the_dial() -> None:
    graph = api(LORA_DIAL)
    ids = {node["class_type"]: key for key, node in graph.items()}
    loader, builder, sweep = (ids[kind] for kind in ("LoraLoader", "AuxPromptBuilder", "DCILambdaSweep"))
    assert graph[loader]["inputs"]["model"] == [ids["CheckpointLoaderSimple"], 0]
    assert graph[sweep]["inputs"]["model"] == [loader, 0] and graph[builder]["inputs"]["clip"] == [loader, 1]
    assert graph[sweep]["inputs"]["positive"] == [builder, 0]
    for node, chosen in ((AuxPromptBuilder, {"prompt", "subject"}), (LambdaSweep, {"injection_strengths"})):
        (given,) = [each["inputs"] for each in graph.values() if each["class_type"] == node.define_schema().node_id]
        usual = defaults(node)
        assert {name for name, value in usual.items() if given[name] != value} == chosen


def test_the_readme_names_every_template_and_the_shortest_way_to_pictures_first() -> None:
    text = (WORKFLOWS.parent / "README.md").read_text()
    assert all(f"*{name}*" in text for name in TEMPLATES)
    assert text.index(f"template *{LORA_DIAL}*") < text.index("template *generate*")


def test_the_readme_tells_the_values_that_nodes_have() -> None:
    text = (WORKFLOWS.parent / "README.md").read_text()
    settings = DCISettings()
    steps = {name: PRESETS[name].steps for name in PresetName}
    assert f"`active_fraction` up ({settings.active_fraction:g} →" in text
    assert f"`injection_strength λ` up ({settings.injection_strength:g} → 2)" in text
    assert f"`with_dci` ({steps[PresetName.WITH_DCI]} steps" in text
    assert f"`alone` ({steps[PresetName.ALONE]}), `quick_look` ({steps[PresetName.QUICK_LOOK]})" in text
