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

from workbench import templates
from workbench.graph_layout import CANVAS_PX, MARGIN_PX
from workbench.templates import LAYOUTS, file_of, graph_of, load_host_nodes, text_of

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
TEMPLATES = list(LAYOUTS)
"""By the names of their graphs."""
API = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))
OWN_VALUES = ("demo", "inpaint", "two_subjects")
"""Their nodes have other values than fresh nodes: the demo model's, denoise, a second placeholder."""
LORA_DIAL = "lora_dial"
"""Needs no concept of ours."""


def api(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())


def template(name: str) -> dict[str, Any]:
    """Return the nodes of a template by id, each with its type, its widgets and the inputs that are wired."""
    graph = json.loads(file_of(name).read_text(encoding="utf-8"))
    ends = {link: [str(node), slot] for link, node, slot, *_ in graph["links"]}
    nodes = {}
    for node in graph["nodes"]:
        inputs = node.get("inputs", [])
        names = [entry["widget"]["name"] for entry in inputs if "widget" in entry]
        for place, widget in enumerate(names):
            if widget == "seed" and node["widgets_values"][place + 1 : place + 2] == ["fixed"]:
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
    """Return the widgets of each node of a type in all templates and in all API graphs but those of OWN_VALUES."""
    shown = [
        node["widgets"]
        for name in TEMPLATES
        if name not in OWN_VALUES
        for node in template(name).values()
        if node["type"] == kind
    ]
    given = [
        {entry: value for entry, value in node["inputs"].items() if not isinstance(value, list)}
        for name in API
        if name not in OWN_VALUES
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
    usual_shown = {name: value for name, value in usual.items() if name not in ("captions", "regularization_captions")}
    kind = node.define_schema().node_id
    shown, given = widgets_of(kind)
    assert len(shown) >= 1 and len(given) >= 2
    for widgets in shown:
        assert {name: widgets[name] for name in usual_shown} == usual_shown
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
    text = (WORKFLOWS.parent / "README.md").read_text(encoding="utf-8")
    titles = {name: LAYOUTS[name].title for name in TEMPLATES}
    assert all(f"*{title}*" in text for title in titles.values())
    assert text.index(f"template *{titles[LORA_DIAL]}*") < text.index(f"template *{titles['generate']}*")


def test_the_readme_tells_the_values_that_nodes_have() -> None:
    text = (WORKFLOWS.parent / "README.md").read_text()
    settings = DCISettings()
    steps = {name: PRESETS[name].steps for name in PresetName}
    assert f"`active_fraction` up ({settings.active_fraction:g} →" in text
    assert f"`injection_strength λ` up ({settings.injection_strength:g} → 2)" in text
    assert f"`with_dci` ({steps[PresetName.WITH_DCI]} steps" in text
    assert f"`alone` ({steps[PresetName.ALONE]}), `quick_look` ({steps[PresetName.QUICK_LOOK]})" in text


@pytest.fixture(scope="module")
def _host_nodes() -> None:
    load_host_nodes()


@pytest.mark.usefixtures("_host_nodes")
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_what_the_command_writes(name: str) -> None:
    assert file_of(name).read_text(encoding="utf-8") == text_of(name), "run python -m workbench.templates"


def test_no_template_is_left_without_a_graph_and_no_graph_without_its_nodes_in_a_group() -> None:
    assert sorted(path.name for path in WORKFLOWS.glob("*.json")) == sorted(file_of(name).name for name in TEMPLATES)
    assert set(API) - set(TEMPLATES) == {"train_and_generate"}
    for name in TEMPLATES:
        placed = [node for group in LAYOUTS[name].groups for column in group.columns for node in column]
        assert sorted(placed) == sorted(graph_of(name)), name


def boxes(graph: dict[str, Any]) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right and bottom of each node with its title, by its title."""
    found = {}
    for node in graph["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        found[f"{node['title']} {node['id']}"] = (x, y - 30, x + width, y + (0 if node["flags"] else height))
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_opens_readable_and_whole_with_nothing_on_top_of_each_other(name: str) -> None:
    graph = json.loads(file_of(name).read_text(encoding="utf-8"))
    scale, offset = graph["extra"]["ds"]["scale"], graph["extra"]["ds"]["offset"]
    assert scale >= 0.6
    found = boxes(graph)
    for title, (left, top, right, bottom) in found.items():
        assert MARGIN_PX[0] - 1 <= (left + offset[0]) * scale and (right + offset[0]) * scale <= CANVAS_PX[0] + 1, title
        assert MARGIN_PX[1] / 2 <= (top + offset[1]) * scale and (bottom + offset[1]) * scale <= CANVAS_PX[1] + 1, title
        for other, (a, b, c, d) in found.items():
            assert title == other or not (left < c and a < right and top < d and b < bottom), (title, other)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_tells_three_things_to_change_and_where_its_checkpoint_is(name: str) -> None:
    graph = json.loads(file_of(name).read_text(encoding="utf-8"))
    (note,) = [node["widgets_values"][0] for node in graph["nodes"] if node["type"] == "MarkdownNote"]
    assert all(f"{number}. " in note for number in (1, 2, 3))
    loaders = ("CheckpointLoaderSimple", "ControlNetLoader")
    for node in graph["nodes"]:
        models = node["properties"].get("models", [])
        assert [model["name"] for model in models] == (node["widgets_values"][:1] if node["type"] in loaders else [])
        assert all(model["url"].startswith("https://") and model["directory"] for model in models)


def test_a_linked_noun_is_shown_as_it_rules() -> None:
    for name in ("demo", "train"):
        (trainer,) = [node for node in template(name).values() if node["type"] == "ICOTrainer"]
        (prompt,) = [n["widgets"]["prompt"] for n in template("demo").values() if n["type"] == "AuxPromptBuilder"]
        expected = {"demo": prompt.split("V* ")[1].split()[0], "train": "toy"}
        assert trainer["widgets"]["class_noun"] == expected[name]


def test_the_command_names_what_would_change_and_writes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(templates, "ROOT", tmp_path)
    monkeypatch.setattr(templates, "WORKFLOWS", tmp_path)
    monkeypatch.setattr(templates, "text_of", lambda name: f"{name}\n")
    monkeypatch.setattr(templates, "load_host_nodes", lambda: None)
    monkeypatch.setattr("sys.argv", ["templates", "--check"])
    with pytest.raises(SystemExit, match="python -m workbench.templates"):
        templates.main()
    assert "would change: 1 Demo.json" in capsys.readouterr().out and not list(tmp_path.glob("*.json"))
    monkeypatch.setattr("sys.argv", ["templates"])
    templates.main()
    assert (tmp_path / "1 Demo.json").read_text() == "demo\n" and len(list(tmp_path.glob("*.json"))) == len(TEMPLATES)
    templates.main()
    assert capsys.readouterr().out.count("changed: ") == len(TEMPLATES)
