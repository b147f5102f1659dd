"""docs/method/method.md leads from each equation to a function and a test that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from markdown_pages import ROOT, lines_outside_code, table_rows

PAGE = Path("docs/method/method.md")
ROWS = table_rows(PAGE, "| equation |")
SECTION = re.compile(r"METHOD section (\d+)(?:\.(\d+))?")


def defined_names(file: Path) -> set[str]:
    """Return the functions, classes and constants of a file, and the methods and fields of its classes."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        names |= {f"{prefix}{name}" for prefix, name in _names_of(node)}
    return names


def _names_of(node: ast.stmt, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(node, ast.FunctionDef):
        return [(prefix, node.name)]
    if isinstance(node, ast.Assign):
        return [(prefix, target.id) for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [(prefix, node.target.id)]
    if isinstance(node, ast.ClassDef):
        inner = [name for part in node.body for name in _names_of(part, f"{node.name}.")]
        return [(prefix, node.name), *inner]
    return []


def code_names(cell: str) -> list[str]:
    """Return what stands between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_has_its_table() -> None:
    assert len(ROWS) > 30 and all(len(row) == 3 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_equation_has_a_function_and_a_test_that_exist(row: list[str]) -> None:
    _, functions, tests = row
    assert code_names(functions) and code_names(tests)
    for name in code_names(functions):
        module, thing = _module_and_name(name)
        assert thing in defined_names(module), f"{module.relative_to(ROOT)} has no {thing}"
    for name in code_names(tests):
        file, _, test = name.partition("::")
        assert test in defined_names(ROOT / "tests" / file), f"tests/{file} has no {test}"


def test_every_section_that_the_code_names_is_on_the_page() -> None:
    numbers = {m[1] for _, line in lines_outside_code(PAGE) if (m := re.match(r"## (\d+)\. ", line))}
    named = {
        match[1]
        for folder in ("dci_core", "nodes", "demo_world", "study", "benchmarks", "tests")
        for file in (ROOT / folder).rglob("*.py")
        for match in SECTION.finditer(file.read_text(encoding="utf-8"))
    }
    assert named and named <= numbers


def _module_and_name(dotted: str) -> tuple[Path, str]:
    """Return the file of a dotted name and what is left of the name."""
    parts = dotted.split(".")
    for count in range(len(parts) - 1, 0, -1):
        file = ROOT.joinpath(*parts[:count]).with_suffix(".py")
        if file.is_file():
            return file, ".".join(parts[count:])
    raise AssertionError(f"there is no module of {dotted}")
