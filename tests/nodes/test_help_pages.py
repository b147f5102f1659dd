"""Every node has a help page, which names all its inputs and outputs as the schema has them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from comfyui_dci.nodes.extension import NODES
from PIL import Image

from workbench.help_pages import MOST_COLUMNS, PAGES, english_page_of, is_unseen, page_of, picture_of, with_tables

MOST_BYTES, MOST_BYTES_TOGETHER, WIDEST_PX = 60_000, 1_000_000, 480


def text_of(schema: Any) -> str:
    return page_of(schema.node_id).read_text(encoding="utf-8")


def names_in(page: str, part: str) -> list[str]:
    """Return the names that the items of a list begin with."""
    _, _, rest = page.partition(f"<!-- {part} -->\n")
    return re.findall(r"^- `([^`]+)`", rest.partition("<!--")[0], re.MULTILINE)


def prose_of(page: str) -> str:
    """Return what is written by hand, without tables."""
    written = re.sub(r"<!-- ([a-z]+) -->.*?<!-- /\1 -->", "", page, flags=re.DOTALL)
    return "\n".join(line for line in written.splitlines() if not line.startswith("|"))


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
    nodes = [node.define_schema().node_id for node in NODES]
    assert sorted(PAGES.rglob("*.md")) == sorted([*map(page_of, nodes), *map(english_page_of, nodes)])


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_the_page_that_comfyui_asks_for_first_is_the_one_it_asks_for_next(node: Any) -> None:
    schema = node.define_schema()
    assert english_page_of(schema.node_id).read_text(encoding="utf-8") == text_of(schema)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_a_page_has_one_picture_small_enough_for_its_panel(node: Any) -> None:
    schema = node.define_schema()
    targets = re.findall(r"^!\[[^\]]+\]\(([^)]+)\)$", text_of(schema), re.MULTILINE)
    assert [PAGES / target for target in targets] == [picture_of(schema.node_id)], "ComfyUI takes pictures from docs"
    file = picture_of(schema.node_id)
    assert file.stat().st_size <= MOST_BYTES
    with Image.open(file) as picture:
        assert picture.format == "WEBP" and picture.width <= WIDEST_PX


def test_no_other_pictures_are_served_and_all_are_small() -> None:
    pictures = [file for file in PAGES.rglob("*") if file.is_file() and file.suffix != ".md"]
    assert sorted(pictures) == sorted(picture_of(node.define_schema().node_id) for node in NODES)
    assert sum(file.stat().st_size for file in pictures) <= MOST_BYTES_TOGETHER


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_a_page_names_every_input_and_output(node: Any) -> None:
    schema = node.define_schema()
    page = text_of(schema)
    assert names_in(page, "inputs") == [entry.id for entry in schema.inputs if not is_unseen(entry)]
    assert all(f"`{entry.id}`" in page for entry in schema.inputs)
    assert names_in(page, "outputs") == [entry.display_name for entry in schema.outputs]
    assert not re.search(r"^- `[^`]+`[^ :]", page, re.MULTILINE), "a label is stuck to its name"


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
    assert set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", prose_of(text_of(node.define_schema())))) <= names


def test_texts_hold_what_markdown_would_take_for_its_own() -> None:
    page = with_tables("# Painter\n\n<!-- inputs -->\nold\n<!-- /inputs -->\nrest\n", schema_of("Painter"))
    assert page == (
        "# Painter\n\n<!-- inputs -->\n\n- `note` (text, default `V*`): a \\| b \\<c> of V\\* d\n"
        "- `image` (IMAGE, optional): `<c>` stays.\n\n<!-- /inputs -->\nrest\n"
    )


def test_long_texts_are_wrapped_and_no_line_becomes_an_item_of_its_own() -> None:
    schema = schema_of("Painter")
    schema.inputs[0].tooltip = "one - two - three " * 20
    page = with_tables("<!-- inputs -->\n<!-- /inputs -->\n", schema)
    lines = page.splitlines()
    assert len(lines) > 8 and max(map(len, lines)) <= MOST_COLUMNS
    assert names_in(page, "inputs") == ["note", "image"]
    assert [line for line in lines if line.lstrip().startswith("-")] == [
        line for line in lines if line.startswith("- `")
    ]


@pytest.mark.parametrize("page", ["", "<!-- inputs -->\n", "<!-- inputs -->\n<!-- /inputs -->\n" * 2])
def test_a_page_without_a_place_for_its_table_is_named(page: str) -> None:
    with pytest.raises(ValueError, match="page of Painter needs one <!-- inputs -->"):
        with_tables(page, schema_of("Painter"))
