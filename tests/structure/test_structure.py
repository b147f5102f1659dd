"""The house: which room may import which, and how large rooms, functions and objects are. Read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("dci_core", "nodes")
FOLDERS = (*PACKAGES, "benchmarks", "demo_world", "scripts", "study", "tests", "workbench")
HOST_MODULES = {
    *("comfy", "comfy_api", "comfy_execution", "comfy_extras"),
    *("execution", "folder_paths", "latent_preview", "node_helpers"),
}
NOT_FOR_THE_CORE = HOST_MODULES | {"nodes", "server", "transformers"}
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
MOST_LINES = 300
MOST_PARAMETERS = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def files(*folders: str) -> list[str]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def imported_names(file: str) -> Iterator[str]:
    """Every module a file imports, by its dotted name from the checkout's root; the host's stay as they are."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = file.split("/")[: -node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@cache
def arrows() -> dict[str, set[str]]:
    """The files of the pack that each file of the pack imports."""
    modules = {file.removesuffix(".py").replace("/", "."): file for file in files(*PACKAGES)}
    return {file: {modules[name] for name in imported_names(file) if name in modules} for file in modules.values()}


def wing(file: str) -> str:
    """The folder in a package that a file belongs to, "" for a file on the ground floor."""
    folders = file.removeprefix("nodes/host/").removeprefix("dci_core/").split("/")[:-1]
    return folders[0] if folders else ""


def package(file: str) -> str:
    return next(name for name in ("dci_core", "nodes/host", "nodes") if file.startswith(f"{name}/"))


def functions(file: str) -> Iterator[Function]:
    return (node for node in ast.walk(tree(file)) if isinstance(node, Function))


def test_the_reading_of_imports_finds_what_is_there() -> None:
    known = arrows()
    assert "dci_core/sampling/dbim.py" in known["nodes/host/sampling/attention.py"]
    assert "dci_core/prompt/tokens.py" in known["dci_core/sampling/dbim.py"]
    assert sum(map(len, known.values())) > 150


def test_nothing_is_unpickled_but_by_torch_s_own_check_in_one_file() -> None:
    """torch.load is called in one place of the pack, with weights_only=True; no module that unpickles or runs a text is known."""
    loads: dict[str, list[ast.Call]] = {}
    for file in files(*PACKAGES):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.serialization.load"):
                loads.setdefault(file, []).append(node)
        assert not {name.split(".")[0] for name in imported_names(file)} & UNPICKLERS, file
        assert "torch.load" not in {*imported_names(file)}, file
    assert list(loads) == ["dci_core/concept/foreign_file.py"]
    ((call,),) = loads.values()
    checks = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    assert checks["weights_only"] == "True"


def test_no_import_joins_the_sampling_and_the_training_wing() -> None:
    joined = [
        (file, other)
        for file, others in arrows().items()
        for other in others
        if {wing(file), wing(other)} == {"sampling", "training"}
    ]
    assert not joined


def test_the_core_never_imports_the_host() -> None:
    strangers = [
        (file, name)
        for file in files("dci_core")
        for name in imported_names(file)
        if name.split(".")[0] in NOT_FOR_THE_CORE
    ]
    assert not strangers


def test_arrows_go_from_nodes_to_the_host_adapters_to_the_core() -> None:
    floor = ("dci_core", "nodes/host", "nodes").index
    assert not [
        (file, other)
        for file, others in arrows().items()
        for other in others
        if floor(package(other)) > floor(package(file))
    ]


def test_no_ground_floor_imports_a_wing_of_its_package() -> None:
    inside = [
        (file, other)
        for file, others in arrows().items()
        for other in others
        if package(file) == package(other) != "nodes" and not wing(file) and wing(other)
    ]
    assert not inside


def test_there_is_no_circle_of_files() -> None:
    assert len(list(TopologicalSorter(arrows()).static_order())) == len(files(*PACKAGES))


def test_there_is_no_circle_of_wings() -> None:
    def room(file: str) -> str:
        return f"{file.split('/')[0]}/{wing(file)}"

    between: dict[str, set[str]] = {}
    for file, others in arrows().items():
        between.setdefault(room(file), set()).update({room(other) for other in others} - {room(file)})
    assert len(list(TopologicalSorter(between).static_order())) == len(between)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_longer_than_can_be_overlooked(folder: str) -> None:
    lengths = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files(folder)}
    assert lengths
    assert not {file: length for file, length in lengths.items() if length > MOST_LINES}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_has_more_parameters_than_one_can_hold_in_mind(folder: str) -> None:
    long = {}
    for file in files(folder):
        for function in functions(file):
            arguments = function.args
            names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > MOST_PARAMETERS and function.name != "execute":
                long[f"{file}::{function.name}"] = count
    assert not long


@pytest.mark.parametrize("folder", FOLDERS)
def test_objects_have_all_their_attributes_when_they_are_made(folder: str) -> None:
    born_later = set()
    for file in files(folder):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ClassDef):
                born_later |= {f"{file}::{node.name}.{name}" for name in _assigned(node) - _born(node)}
    assert not born_later


def _assigned(node: ast.ClassDef) -> set[str]:
    """Names that methods of a class assign to its object."""
    targets: list[ast.expr] = []
    for child in ast.walk(node):
        if isinstance(child, ast.Assign):
            targets += child.targets
        elif isinstance(child, ast.AnnAssign | ast.AugAssign):
            targets.append(child.target)
    return {name for target in targets for name in _of_self(target)}


def _born(node: ast.ClassDef) -> set[str]:
    """Names that its body declares or its constructor assigns."""
    declared = {
        child.target.id
        for child in node.body
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name)
    }
    for child in node.body:
        if isinstance(child, ast.Assign):
            declared |= {target.id for target in child.targets if isinstance(target, ast.Name)}
        elif isinstance(child, Function) and child.name in ("__init__", "__new__"):
            made = ast.ClassDef(node.name, [], [], [child], [])
            declared |= _assigned(made)
    return declared


def _of_self(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _of_self(element)
    elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
        yield target.attr
