"""Where ComfyUI is looked for, and what is said when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import comfy_install
import environment
import pytest

ROOT = Path(__file__).resolve().parents[2]


def put_comfyui(folder: Path, version: str = "1.2.3") -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "comfy" / "samplers.py").touch()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    (folder / "requirements.txt").write_text("einops\n")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(comfy_install, "ROOT", tmp_path / "somewhere" / "pack")
    return tmp_path


def test_comfyui_is_found_in_the_promised_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert comfy_install.find_comfyui() is None
    cloned = put_comfyui(home / ".cache" / "comfyui-dci" / f"ComfyUI-{comfy_install.PINNED_RELEASE}")
    assert comfy_install.find_comfyui() == cloned
    workspace = put_comfyui(home / "comfy" / "ComfyUI")
    assert comfy_install.find_comfyui() == workspace
    around = put_comfyui(home / "mine")
    monkeypatch.setattr(comfy_install, "ROOT", around / "custom_nodes" / "pack")
    assert comfy_install.find_comfyui() == around
    named = put_comfyui(home / "named")
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    assert comfy_install.get_comfyui() == named
    assert comfy_install.version_of(named) == "1.2.3" and comfy_install.version_of(home) == "unknown"


def test_a_wrong_path_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_comfyui(home / "comfy" / "ComfyUI")
    monkeypatch.setenv("COMFYUI_PATH", str(home / "nothing"))
    with pytest.raises(SystemExit, match="COMFYUI_PATH is .*nothing, but there is no ComfyUI"):
        comfy_install.find_comfyui()


def test_without_comfyui_and_network_it_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy_install, "REPOSITORY", str(home / "no-repository"))
    with pytest.raises(SystemExit, match="could not be cloned. Set COMFYUI_PATH"):
        comfy_install.get_comfyui()


def test_an_environment_is_made_once_for_each_set_of_requirements(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[list[str]] = []
    monkeypatch.setattr(environment.venv, "create", lambda folder, with_pip: folder.mkdir(parents=True))
    monkeypatch.setattr(environment.subprocess, "run", lambda command, check: installed.append(command))
    one, other = put_comfyui(home / "one"), put_comfyui(home / "other")
    (other / "requirements.txt").write_text("einops>=1\n")
    first = environment.environment_for(one)
    assert len(installed) == 4 and all(command[-2] == "-r" for command in installed)
    assert environment.environment_for(one) == first and len(installed) == 4
    assert environment.environment_for(other) != first and len(installed) == 8
    assert not first.is_relative_to(ROOT)


def test_the_shipped_graphs_are_made_of_offered_inputs_only() -> None:
    offered = json.loads((ROOT / "tests" / "golden" / "nodes.json").read_text())
    for path in sorted((ROOT / "workflows" / "api").glob("*.json")):
        for node in json.loads(path.read_text()).values():
            if node["class_type"] in offered:
                inputs = offered[node["class_type"]]["inputs"]
                required = {name for name, facts in inputs.items() if not facts["optional"]}
                assert required <= set(node["inputs"]) <= set(inputs), (path.name, node["class_type"])
