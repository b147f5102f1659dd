"""The registry's rules for the code of a pack, and our own, read from the files that are shipped."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from shipped_files import ROOT, shipped_files

CODE = [name for name in shipped_files() if name.endswith(".py")]
CALLS = {"eval", "exec", "compile", "__import__"}
PROCESSES = "subprocess multiprocessing pty pip ensurepip venv setuptools pkg_resources ctypes code runpy"
PICKLES = "pickle _pickle cPickle cloudpickle dill joblib shelve marshal torch.load torch.save"
NETWORK = (
    "socket socketserver ssl http urllib urllib3 ftplib smtplib poplib imaplib telnetlib xmlrpc webbrowser requests aiohttp httpx "
    "websocket websockets huggingface_hub torch.hub"
)
COMMANDS = "os.system os.popen os.startfile os.fork importlib.import_module"
WAYS = "p l le lp lpe v ve vp vpe"
STARTS = {f"os.{kind}{way}" for kind in ("exec", "spawn", "posix_spawn") for way in ("", *WAYS.split())}
NAMES = {*PROCESSES.split(), *PICKLES.split(), *NETWORK.split(), *COMMANDS.split(), *STARTS}
"""Modules that may not be imported, and what may not be taken from others."""
ALLOWED = {"dci_core/concept/foreign_file.py": ["torch.load"]}
"""Files of other trainers are torch's own: read with weights_only alone, which tests/structure holds."""
ARGUMENTS = {"allow_pickle", "shell", "trust_remote_code"}


def breaches(source: str) -> Iterator[str]:
    """What a file does that is forbidden; a module that is imported by its written name counts as any import."""
    tree = ast.parse(source)
    given_to = {node.func: node.args[0] for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            given = given_to.get(node)
            if ast.unparse(node) == "importlib.import_module" and isinstance(given, ast.Constant):
                names = [given.value]
            else:
                yield from {ast.unparse(node)} & NAMES
        elif isinstance(node, ast.Name):
            yield from {node.id} & CALLS
        elif isinstance(node, ast.keyword):
            yield from {str(node.arg)} & ARGUMENTS
        for name in names:
            parts = name.split(".")
            yield from {".".join(parts[: count + 1]) for count in range(len(parts))} & NAMES


@pytest.mark.parametrize(
    ("source", "breach"),
    [
        ("eval('1')", "eval"),
        ("run = exec", "exec"),
        ("import subprocess", "subprocess"),
        ("import os\nos.system('pip install x')", "os.system"),
        ("from os import execvp", "os.execvp"),
        ("from urllib.request import urlopen", "urllib"),
        ("def later():\n    import requests", "requests"),
        ("from torch import load", "torch.load"),
        ("import torch\ntorch.load('x')", "torch.load"),
        ("import numpy\nnumpy.load('x', allow_pickle=True)", "allow_pickle"),
        ("import http.client as c", "http"),
        ("import importlib\nimportlib.import_module('pip')", "pip"),
        ("import importlib\nimportlib.import_module(name)", "importlib.import_module"),
        ("import importlib\nrun = importlib.import_module", "importlib.import_module"),
    ],
)
def test_the_reading_finds_what_is_forbidden(source: str, breach: str) -> None:
    assert breach in set(breaches(source))


def test_the_reading_lets_what_only_looks_alike_pass() -> None:
    harmless = "import torch, re, importlib\nimportlib.import_module('bitsandbytes')\nmodel.eval()\nre.compile('x')\ntorch.compile\nnumpy.load('x')\nfrom .http import code"
    assert not list(breaches(harmless))


def test_shipped_code_needs_no_eval_exec_pip_process_network_or_pickle() -> None:
    found = {name: sorted(set(breaches((ROOT / name).read_text(encoding="utf-8")))) for name in CODE}
    assert len(found) > 100
    assert {name: breach for name, breach in found.items() if breach} == ALLOWED


def test_shipped_scripts_of_the_canvas_reach_nothing_but_the_canvas() -> None:
    scripts = [name for name in shipped_files() if name.endswith(".js")]
    assert scripts
    for name in scripts:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(
            r"\b(eval|Function|fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon)\b|\bimport\s*\(", text
        )
        assert all(source.startswith("../../scripts/") for source in re.findall(r"from\s+[\"']([^\"']+)", text))


def test_only_code_and_data_that_cannot_run_are_shipped() -> None:
    endings = {name.rpartition("/")[2].partition(".")[2] for name in shipped_files()}
    assert endings <= {
        "py",
        "js",
        "md",
        "json",
        "jpg",
        "png",
        "webp",
        "safetensors",
        "toml",
        "txt",
        "LICENSE.txt",
        "comfyignore",
        "",
    }


def test_the_registrys_own_selection_of_ruff_finds_nothing() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "-q", "--select", "S102,S307,E702"]
    ran = subprocess.run([*command, *CODE], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert (ran.returncode, ran.stdout) == (0, "")
