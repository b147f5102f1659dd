"""docs/use/headless.md shows the client as it is."""

from __future__ import annotations

import sys

from markdown_pages import ROOT, code_blocks

PAGE = ROOT / "docs" / "use" / "headless.md"


def test_the_page_shows_the_client_that_our_own_scripts_use() -> None:
    client = (ROOT / "workbench" / "comfy_client.py").read_text(encoding="utf-8")
    assert code_blocks(PAGE, "python")[-1] == client


def test_the_client_needs_nothing_of_the_pack() -> None:
    client = (ROOT / "workbench" / "comfy_client.py").read_text(encoding="utf-8")
    imported = {
        line.split()[1].split(".")[0] for line in client.splitlines() if line.lstrip().startswith(("import ", "from "))
    }
    assert "aiohttp" in imported
    assert imported - {"aiohttp"} <= set(sys.stdlib_module_names)
