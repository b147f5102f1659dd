"""The pack is loaded once, under one name, after ComfyUI; and what is said where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workbench import pack


def test_a_second_call_returns_the_same_module() -> None:
    module = pack.load_pack()
    assert module is pack.load_pack() is pack.register_pack() is sys.modules[pack.NAME]
    assert module.__path__ == [str(pack.ROOT)]


@pytest.mark.parametrize("folder", ["", "/nowhere"])
def test_without_comfyui_it_says_what_to_do(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pack.HOST_VARIABLE, folder)
    with pytest.raises(SystemExit, match=rf"COMFYUI_PATH is {folder or 'not set'}\. Set it to the ComfyUI folder"):
        pack.load_pack()


def test_the_nodes_module_is_the_hosts() -> None:
    import nodes

    assert nodes.NODE_CLASS_MAPPINGS["KSampler"] and Path(nodes.__file__).parent == Path(sys.path[0])


def in_a_process_of_its_own(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=pack.ROOT, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.sweep
def test_the_packages_bring_host_and_pack_with_them_and_stay_on_the_cpu_when_told_to() -> None:
    told = in_a_process_of_its_own(
        "import sys; sys.argv.append('--cpu'); import study, benchmarks, nodes, comfy.model_management as host;"
        "import comfyui_dci.dci_core as core; print(nodes.__file__, core.__file__, host.get_torch_device())"
    )
    hosts, ours, device = told.split()
    assert Path(hosts).name == "nodes.py" and Path(ours).parent == pack.ROOT / "dci_core" and device == "cpu"


def test_the_demo_world_needs_the_host_for_its_networks_only() -> None:
    told = in_a_process_of_its_own(
        "import sys, demo_world.judge, demo_world.subjects; print([name for name in sys.modules if name.split('.')[0] == 'comfy'])"
    )
    assert told.strip() == "[]"
