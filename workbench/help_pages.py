"""The tables of the nodes' help pages, made from the schemas; the prose around them is written by hand.

A table stands between two comments of a page: ``<!-- inputs -->`` and ``<!-- /inputs -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from comfyui_dci.dci_core.seeds import LARGEST_SEED
from comfyui_dci.dci_core.training.presets import PRESETS

from workbench.pack import ROOT

PAGES = ROOT / "web" / "docs"
HOST_LISTS = {
    "sampler_name": "a sampler of ComfyUI",
    "scheduler": "a scheduler of ComfyUI",
    "name": "a file",
    "folder": "a folder",
}
"""Choices that differ from one installation to another, and what a page says of them."""


def page_of(node_id: str) -> Path:
    """Return the help page that ComfyUI shows for a node."""
    return PAGES / f"{node_id}.md"


def with_tables(page: str, schema: Any) -> str:
    """Return a page with its tables as the schema has them.

    Args:
        page: the text of the page.
        schema: of the node.

    Raises:
        ValueError: the page lacks a place for a table.
    """
    for name, make in TABLES.items():
        rows = make(schema)
        opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
        if not rows:
            continue
        if page.count(opening) != 1 or page.count(closing) != 1:
            raise ValueError(f"The help page of {schema.node_id} needs one {opening} and one {closing} below it.")
        before, rest = page.split(opening)
        page = before + "\n".join([opening, "", *rows, "", closing]) + rest.split(closing)[1]
    return page


def _inputs(schema: Any) -> list[str]:
    return _table(
        ("input", "takes", "default", "what it does"),
        [(_named(entry), _takes(entry), _default(entry), entry.tooltip) for entry in schema.inputs],
    )


def _outputs(schema: Any) -> list[str]:
    return _table(
        ("output", "gives", "what it is"),
        [(f"`{entry.display_name}`", _gives(entry), entry.tooltip) for entry in schema.outputs],
    )


def _presets(schema: Any) -> list[str]:
    if all(entry.id != "preset" for entry in schema.inputs):
        return []
    return _table(
        ("preset", "M, L, S", "steps", "images a step", "checkpoints"),
        [
            (
                name.value,
                f"{preset.scheme.prefix}, {preset.scheme.suffix}, {preset.scheme.concept_vectors}",
                f"{preset.steps}",
                f"{preset.batch_size}",
                f"every {preset.checkpoint_every}, {preset.checkpoints_kept} kept",
            )
            for name, preset in PRESETS.items()
        ],
    )


TABLES: dict[str, Callable[[Any], list[str]]] = {"inputs": _inputs, "outputs": _outputs, "presets": _presets}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(text: str) -> str:
    """Return a text as it stands in a table: one line, with nothing in it that markdown or HTML would take for its own."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("|", r"\|"))
    return "".join(piece if piece.startswith("`") else re.sub(r"([*<])", r"\\\1", piece) for piece in pieces)


def _named(entry: Any) -> str:
    """Return the id, and what the node writes beside it: its label is the id in words, mostly with the paper's symbol."""
    symbol = (entry.display_name or "").removeprefix(entry.id.replace("_", " "))
    return f"`{entry.id}`{symbol}"


def _takes(entry: Any) -> str:
    if entry.io_type in ("INT", "FLOAT"):
        return f"{_number(entry.min)} … {_number(entry.max)}"
    if entry.io_type == "COMBO":
        return HOST_LISTS.get(entry.id) or ", ".join(entry.options)
    return {"BOOLEAN": "on, off", "STRING": "text"}.get(entry.io_type, entry.io_type)


def _default(entry: Any) -> str:
    default = getattr(entry, "default", None)
    if default is None:
        choice = entry.io_type == "COMBO"
        return "the first" if choice else "none" if entry.optional else "to be connected"
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, str):
        lines = default.splitlines()
        return f"{len(lines)} lines" if len(lines) > 1 else f"`{default}`" if default else "empty"
    return _number(default)


def _gives(entry: Any) -> str:
    return f"{entry.io_type}, a list" if entry.is_output_list else str(entry.io_type)


def _number(value: float) -> str:
    if value == LARGEST_SEED:
        return "2⁶⁴ - 1"
    return str(int(value)) if value == int(value) else f"{value:g}"
