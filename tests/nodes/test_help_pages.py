"""Every node has a help page, which names all its inputs and outputs as the schema has them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from comfyui_dci.nodes.extension import NODES

from workbench.help_pages import PAGES, page_of, with_tables

MOST_COLUMNS = 100


def text_of(schema: Any) -> str:
    return page_of(schema.node_id).read_text(encoding="utf-8")


def first_cells(page: str, table: str) -> list[str]:
    """Return the names in the first column of a table."""
    _, _, rest = page.partition(f"<!-- {table} -->\n")
    return re.findall(r"^\| `([^`]+)`", rest.partition("<!--")[0], re.MULTILINE)


def schema_of(page: str) -> Any:
    return SimpleNamespace(
        node_id="Painter",
        inputs=[
            SimpleNamespace(
                id="note",
                display_name=None,
                io_type="STRING",
                default="V*",
                optional=False,
                tooltip="a | b <c> of V*\nd",
            ),
            SimpleNamespace(id="image", display_name=None, io_type="IMAGE", optional=True, tooltip="`<c>` stays."),
        ],
        outputs=[],
    )


def test_every_page_belongs_to_a_node() -> None:
    assert sorted(file.name for file in PAGES.iterdir()) == sorted(f"{n.define_schema().node_id}.md" for n in NODES)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_a_page_names_every_input_and_output(node: Any) -> None:
    schema = node.define_schema()
    page = text_of(schema)
    assert first_cells(page, "inputs") == [entry.id for entry in schema.inputs]
    assert first_cells(page, "outputs") == [entry.display_name for entry in schema.outputs]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_the_tables_follow_the_schema(node: Any) -> None:
    schema = node.define_schema()
    assert text_of(schema) == with_tables(text_of(schema), schema), "run python -m workbench.public_names"


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_a_page_is_read_as_it_was_written(node: Any) -> None:
    schema = node.define_schema()
    lines = text_of(schema).splitlines()
    assert lines[0] == f"# {schema.display_name}"
    prose = [line for line in lines if not line.startswith("|")]
    assert max(map(len, prose)) <= MOST_COLUMNS
    plain = re.sub(r"`[^`]*`|\\<|<!-- /?[a-z]+ -->", "", "\n".join(lines))
    assert "<" not in plain, "ComfyUI would take it for HTML"
    tables = [line for line in lines if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) >= 3 and line.endswith("|") for line in tables)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_what_prose_names_as_code_exists(node: Any) -> None:
    """A name with an underscore in backticks is an input or output of some node."""
    schemas = [entry.define_schema() for entry in NODES]
    names = {entry.id for schema in schemas for entry in schema.inputs}
    names |= {entry.display_name for schema in schemas for entry in schema.outputs}
    prose = "\n".join(line for line in text_of(node.define_schema()).splitlines() if not line.startswith("|"))
    assert set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", prose)) <= names


def test_cells_hold_what_markdown_would_take_for_its_own() -> None:
    page = with_tables("# Painter\n\n<!-- inputs -->\nold\n<!-- /inputs -->\nrest\n", schema_of("Painter"))
    assert page == (
        "# Painter\n\n<!-- inputs -->\n\n| input | takes | default | what it does |\n| --- | --- | --- | --- |\n"
        "| `note` | text | `V*` | a \\| b \\<c> of V\\* d |\n| `image` | IMAGE | none | `<c>` stays. |\n"
        "\n<!-- /inputs -->\nrest\n"
    )


@pytest.mark.parametrize("page", ["", "<!-- inputs -->\n", "<!-- inputs -->\n<!-- /inputs -->\n" * 2])
def test_a_page_without_a_place_for_its_table_is_named(page: str) -> None:
    with pytest.raises(ValueError, match="page of Painter needs one <!-- inputs -->"):
        with_tables(page, schema_of("Painter"))
