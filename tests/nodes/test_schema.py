"""The public interface: node ids, inputs, defaults and outputs never change by accident."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.extension import NODES
from comfyui_dci.nodes.sockets import DEMO, SAMPLE, TRAIN

from workbench.public_names import GOLDEN, golden_text, public_names

ROOT = Path(__file__).resolve().parents[2]


def described() -> dict[str, Any]:
    """Return what a shared workflow file relies on, by node id."""
    return public_names([node.define_schema() for node in NODES])


def test_the_public_interface_is_as_recorded() -> None:
    now, recorded = json.loads(json.dumps(described())), json.loads(GOLDEN.read_text())
    assert now == recorded
    for name, node in recorded.items():
        assert list(now[name]["inputs"]) == list(node["inputs"]), (
            "workflow files hold values in the order of the inputs"
        )


def test_the_golden_is_what_the_command_writes() -> None:
    schemas = [node.define_schema() for node in NODES]
    assert GOLDEN.read_text(encoding="utf-8") == golden_text(schemas), "run python -m workbench.public_names"


def test_the_fixed_node_ids_are_there() -> None:
    assert {"ICOTrainer", "AuxPromptBuilder", "DCISampler", "MaskVisualizer"} <= set(described())


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_node_explains_itself(node: Any) -> None:
    schema = node.define_schema()
    assert schema.category in (TRAIN, SAMPLE, DEMO) and schema.description and schema.display_name
    assert all(entry.tooltip for entry in [*schema.inputs, *schema.outputs])
    assert all(output.display_name for output in schema.outputs)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_a_label_is_the_id_with_the_paper_s_symbol(node: Any) -> None:
    labels = {entry.id: entry.display_name for entry in node.define_schema().inputs if entry.display_name}
    assert all(label.split(" ")[0] == name for name, label in labels.items())
    assert all(label.split(" ")[1:] in ([], ["λ"], ["T_a"], ["M"], ["L"], ["S"]) for label in labels.values())


def test_the_search_finds_every_node_by_the_pack_s_name_and_the_trainer_by_what_users_call_it() -> None:
    schemas = {node.define_schema().node_id: node.define_schema() for node in NODES}
    assert all("dci" in schema.search_aliases for schema in schemas.values())
    words = {
        "subject",
        "personalize",
        "character",
        "dreambooth",
        "textual inversion",
        "lora training",
        "custom diffusion",
    }
    assert words | {"face", "style"} <= set(schemas["ICOTrainer"].search_aliases)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_execute_takes_exactly_the_inputs(node: Any) -> None:
    schema = node.define_schema()
    ids = [entry.id for entry in schema.inputs]
    parameters = inspect.signature(node.execute).parameters
    named = [name for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    assert set(named) <= set(ids)
    if len(named) == len(parameters):
        assert set(named) == set(ids)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_the_widgets_of_older_graphs_stay_where_they_were(node: Any) -> None:
    """Graphs hold the values of widgets in order, and the host hands out required inputs before optional ones."""
    offered = node.INPUT_TYPES()
    in_order = [*offered.get("required", {}), *offered.get("optional", {})]
    assert in_order == [entry.id for entry in node.define_schema().inputs]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_what_is_advanced_can_be_left_out(node: Any) -> None:
    inputs = node.define_schema().inputs
    last_needed = max((place for place, entry in enumerate(inputs) if not entry.optional), default=-1)
    assert not any(getattr(entry, "advanced", False) for entry in inputs[: last_needed + 1])


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_what_is_left_out_is_what_a_fresh_node_has(node: Any) -> None:
    shown = {entry.id: getattr(entry, "default", None) for entry in node.define_schema().inputs if entry.optional}
    parameters = inspect.signature(node.execute).parameters.values()
    taken = {one.name: one.default for one in parameters if one.name in shown and one.default is not None}
    assert all(value == shown[name] or (shown[name] is None and not value) for name, value in taken.items())


def test_the_two_branch_inputs_are_the_settings() -> None:
    fields = {name for name in DCISettings.__dataclass_fields__ if name != "forced_auxiliary_weight"}
    sampler = described()["DCISampler"]["inputs"]
    assert fields <= set(sampler)
    assert set(described()["DCIApply"]["inputs"]) == fields | {"model"}
    assert all(sampler[name] == described()["DCIApply"]["inputs"][name] for name in fields)


def test_the_pack_imports_nothing_heavy_and_touches_no_other_pack() -> None:
    program = (
        "import sys, importlib.util as u;"
        f"s = u.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r}, submodule_search_locations=[{str(ROOT)!r}]);"
        "m = u.module_from_spec(s); sys.modules['pack'] = m; s.loader.exec_module(m);"
        "print([n for n in ('torch', 'transformers', 'numpy', 'PIL', 'comfy') if n in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_the_core_never_imports_comfyui_or_transformers() -> None:
    program = (
        "import sys, pkgutil, importlib;"
        f"sys.path.insert(0, {str(ROOT)!r});"
        "import dci_core;"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(dci_core.__path__, 'dci_core.')];"
        "print([n for n in sys.modules if n.split('.')[0] in ('comfy', 'comfy_api', 'folder_paths', 'transformers')])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_requirements_and_metadata_agree() -> None:
    lines = (ROOT / "requirements.txt").read_text().split()
    project = (ROOT / "pyproject.toml").read_text()
    assert [line.split(">=")[0] for line in lines] == ["safetensors", "numpy", "pillow", "transformers"]
    assert all(f'"{line}"' in project for line in lines)
    from comfyui_dci.dci_core.version import VERSION

    assert f'version = "{VERSION}"' in project
