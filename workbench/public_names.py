"""Write down what graphs of users rely on, and the tables of the help pages and of the concept file's page.

COMFYUI_PATH=… python -m workbench.public_names [--check]

``tests/golden/nodes.json`` holds ids, types, defaults, ranges and choices of every node. A changed line there is a promise
broken, or a new one given: read the difference before you commit it. ``--check`` writes nothing and fails where something
would change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from workbench.help_pages import CONCEPT_FILE_PAGE, HOST_LISTS, english_page_of, page_of, with_families, with_tables
from workbench.pack import ROOT, load_pack

GOLDEN = ROOT / "tests" / "golden" / "nodes.json"


def schemas() -> list[Any]:
    """Return the schemas of all nodes, registered as the host does it."""
    from comfyui_dci.nodes.extension import DCIExtension

    return [node.define_schema() for node in asyncio.run(DCIExtension().get_node_list())]


def public_names(found: list[Any]) -> dict[str, Any]:
    """Return what a shared workflow file relies on, by node id."""
    return {
        schema.node_id: {
            "display_name": schema.display_name,
            "inputs": {entry.id: _facts(entry) for entry in schema.inputs},
            "outputs": [[output.io_type, output.display_name] for output in schema.outputs],
        }
        for schema in found
    }


def golden_text(found: list[Any]) -> str:
    """Return the text of the golden file."""
    return json.dumps(public_names(found), indent=1, ensure_ascii=False) + "\n"


def texts(found: list[Any]) -> dict[Path, str]:
    """Return every file as it should be."""
    pages = {schema.node_id: with_tables(_text_of(page_of(schema.node_id)), schema) for schema in found}
    return {
        GOLDEN: golden_text(found),
        **{page_of(node): page for node, page in pages.items()},
        **{english_page_of(node): page for node, page in pages.items()},
        CONCEPT_FILE_PAGE: with_families(_text_of(CONCEPT_FILE_PAGE)),
    }


def main() -> None:
    """Write the files, or say which of them would change. The pack is loaded before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something would change")
    check = parser.parse_args().check
    changed = {file: text for file, text in texts(schemas()).items() if not file.exists() or _text_of(file) != text}
    for file, text in changed.items():
        print(f"{'would change' if check else 'changed'}: {file.relative_to(ROOT)}")
        if not check:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
    if check and changed:
        raise SystemExit("Run python -m workbench.public_names and read what it changes.")


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _facts(entry: Any) -> dict[str, Any]:
    facts = {"type": entry.io_type, "optional": entry.optional}
    for name in ("default", "min", "max", "options"):
        value = getattr(entry, name, None)
        if value is not None and not (name == "options" and entry.id in HOST_LISTS):
            facts[name] = value
    return facts


if __name__ == "__main__":
    load_pack(cpu=True)
    main()
