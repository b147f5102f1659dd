"""docs/method/glossary.md names inputs, outputs and metadata keys that exist."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from comfyui_dci.dci_core.concept.concept import ConceptInfo
from markdown_pages import ROOT, table_rows

PAGE = Path("docs/method/glossary.md")
ROWS = table_rows(PAGE, "| term |")
NAMED = re.compile(r"\b(input|output|key)s?(?: and (key))? ((?:`\w+`(?:, )?)+)")


def known_names() -> dict[str, set[str]]:
    """Return the ids of all nodes' inputs, the names of their outputs, and the keys of concept files."""
    nodes = json.loads((ROOT / "tests" / "golden" / "nodes.json").read_text(encoding="utf-8"))
    return {
        "input": {name for node in nodes.values() for name in node["inputs"]},
        "output": {name for node in nodes.values() for _, name in node["outputs"]},
        "key": {field.name for field in fields(ConceptInfo)},
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_word_is_explained_and_what_it_names_exists(row: list[str]) -> None:
    term, meaning, *_, where = row
    assert term and meaning and where
    for kind, other, names in NAMED.findall(where):
        for name in re.findall(r"`(\w+)`", names):
            for known in filter(None, (kind, other)):
                assert name in known_names()[known], f"there is no {known} {name}"


def test_no_word_stands_twice() -> None:
    terms = [word for row in ROWS for word in row[0].split(", ")]
    assert len(ROWS) > 40 and len(terms) == len(set(terms))
