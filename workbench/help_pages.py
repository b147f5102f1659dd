"""The tables and lists of pages, made from the schemas of the nodes and from the code; the prose is written by hand.

Each stands between two comments of a page: ``<!-- inputs -->`` and ``<!-- /inputs -->``. Inputs and outputs are lists,
because ComfyUI shows a help page in a panel too narrow for a table of sentences.

ComfyUI asks for ``docs/<node>/<language>.md`` first, then for ``docs/<node>.md``, and takes the pictures of both from
``docs``. The second is the page that is written, and what every language without one of its own gets; the English first
one is its copy.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from comfyui_dci.dci_core.families import FAMILIES
from comfyui_dci.dci_core.seeds import LARGEST_SEED
from comfyui_dci.dci_core.training.ico import TEMPLATE_WORDS
from comfyui_dci.dci_core.training.presets import PRESETS
from comfyui_dci.dci_core.training.settings import TrainingMode

from workbench.pack import ROOT

MOST_COLUMNS = 100
PAGES = ROOT / "web" / "docs"
CONCEPT_FILE_PAGE = ROOT / "docs" / "use" / "concept-file.md"
HOST_LISTS = {
    "sampler_name": "a sampler of ComfyUI",
    "scheduler": "a scheduler of ComfyUI",
    "name": "a file",
    "folder": "a folder",
    "weights": "a file, or none",
    "embedding": "a file, or none",
}
"""Choices that differ from one installation to another, and what a page says of them."""


def page_of(node_id: str) -> Path:
    """Return the help page of a node, as it is written."""
    return PAGES / f"{node_id}.md"


def english_page_of(node_id: str) -> Path:
    """Return the copy of a help page for which ComfyUI in English asks first."""
    return PAGES / node_id / "en.md"


def picture_of(node_id: str) -> Path:
    """Return the picture on a help page."""
    return PAGES / node_id / "picture.webp"


def with_tables(page: str, schema: Any) -> str:
    """Return the help page of a node with its tables as the schema has them.

    Args:
        page: the text of the page.
        schema: of the node.

    Raises:
        ValueError: the page lacks a place for a table.
    """
    for name, make in TABLES.items():
        rows = make(schema)
        if rows:
            page = _with_table(page, name, rows, f"The help page of {schema.node_id}")
    return page


def with_families(page: str) -> str:
    """Return the page of the concept file with its table of model families.

    Args:
        page: the text of the page.

    Raises:
        ValueError: the page lacks a place for the table.
    """
    rows = _table(
        ("family", "in ModelSpec", "text encoders", "native size"),
        [
            (
                f"`{family.name}`",
                family.architecture,
                ", ".join(f"`{encoder}`" for encoder in family.text_encoders),
                f"{family.native_resolution}²",
            )
            for family in FAMILIES.values()
        ],
    )
    return _with_table(page, "families", rows, "The page of the concept file")


def _with_table(page: str, name: str, rows: Sequence[str], owner: str) -> str:
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    if page.count(opening) != 1 or page.count(closing) != 1:
        raise ValueError(f"{owner} needs one {opening} and one {closing} below it.")
    before, rest = page.split(opening)
    return before + "\n".join([opening, "", *rows, "", closing]) + rest.split(closing)[1]


def _inputs(schema: Any) -> list[str]:
    return _list([(_named(entry), _facts(entry), entry.tooltip) for entry in schema.inputs if not is_unseen(entry)])


def is_unseen(entry: Any) -> bool:
    """Tell whether an input is kept for older graphs alone and not shown."""
    return bool(getattr(entry, "extra_dict", {}).get("hidden"))


def _unseen(schema: Any) -> list[str]:
    names = ", ".join(f"`{entry.id}`" for entry in schema.inputs if is_unseen(entry))
    return textwrap.wrap(f"{names}.", MOST_COLUMNS) if names else []


def _outputs(schema: Any) -> list[str]:
    return _list([(f"`{entry.display_name}`", _gives(entry), entry.tooltip) for entry in schema.outputs])


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


def _modes(schema: Any) -> list[str]:
    if all(entry.id != "mode" or is_unseen(entry) for entry in schema.inputs):
        return []
    template = f'"{" ".join(TEMPLATE_WORDS)}" instead'
    return _table(
        ("mode", "weights it changes", "V*", "M and L"),
        [
            (
                mode.value,
                ", ".join(f"`{projection}`" for projection in mode.projections) or "none",
                "learned" if mode.learns_tokens else "stays as it starts",
                "learned" if mode.learns_contexts else template,
            )
            for mode in TrainingMode
        ],
    )


TABLES: dict[str, Callable[[Any], list[str]]] = {
    "inputs": _inputs,
    "outputs": _outputs,
    "presets": _presets,
    "modes": _modes,
    "unseen": _unseen,
}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _list(entries: Sequence[tuple[str, str, str]]) -> list[str]:
    lines = []
    for name, facts, text in entries:
        item = f"- {name} ({_cell(facts)}): {_cell(text)}"
        unbroken = item[:2] + item[2:].replace(
            " - ", "\N{NO-BREAK SPACE}- "
        )  # a line that begins with it would be an item
        lines += textwrap.wrap(
            unbroken, MOST_COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    return lines


def _cell(text: str) -> str:
    """Return a text as it stands in a table or list: one line, with nothing in it that markdown or HTML would take for its own."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("|", r"\|"))
    return "".join(piece if piece.startswith("`") else re.sub(r"([*<])", r"\\\1", piece) for piece in pieces)


def _named(entry: Any) -> str:
    """Return the id, with the paper's symbol where the node shows it beside."""
    symbol = (entry.display_name or entry.id).removeprefix(entry.id)
    return f"`{entry.id}`{symbol}"


def _facts(entry: Any) -> str:
    takes = _takes(entry)
    return f"{takes}{';' if ',' in takes else ','} {_default(entry)}"


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
        return "the first by default" if choice else "optional" if entry.optional else "to be connected"
    if isinstance(default, bool):
        return f"default {'on' if default else 'off'}"
    if isinstance(default, str):
        lines = default.splitlines()
        return f"default {f'{len(lines)} lines' if len(lines) > 1 else f'`{default}`' if default else 'empty'}"
    return f"default {_number(default)}"


def _gives(entry: Any) -> str:
    return f"{entry.io_type}, a list" if entry.is_output_list else str(entry.io_type)


def _number(value: float) -> str:
    if value == LARGEST_SEED:
        return "2⁶⁴ - 1"
    return str(int(value)) if value == int(value) else f"{value:g}"
