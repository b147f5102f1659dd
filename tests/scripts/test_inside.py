"""A script that starts itself anew finds the checkout's packages; the server it starts does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import inside
import pytest
from comfy_install import ROOT

from workbench.comfy_server import without_checkout


def test_the_same_command_runs_in_the_environment_with_the_checkout_first(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def run(command: list[str], env: dict[str, str], check: bool) -> subprocess.CompletedProcess[str]:
        started.extend((command, env))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(inside.subprocess, "run", run)
    monkeypatch.setattr(inside, "environment_for", lambda comfyui: comfyui / "python")
    monkeypatch.setattr(sys, "argv", ["demo.py", "--steps", "3"])
    monkeypatch.setenv("PYTHONPATH", "/mine")
    assert not inside.is_inside() and inside.start_inside(Path("/host")) == 3
    command, environment = started
    assert command == [str(Path("/host/python")), "demo.py", "--steps", "3"]
    assert environment["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/mine"])
    monkeypatch.setattr(os, "environ", environment)
    assert inside.is_inside()


def test_the_server_gets_the_search_path_without_the_checkout() -> None:
    assert without_checkout(os.pathsep.join([str(ROOT), "/mine"])) == "/mine"
    assert without_checkout(str(ROOT)) == without_checkout("") == ""
