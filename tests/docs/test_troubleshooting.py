"""What docs/use/troubleshooting.md lets the node or the log say is what the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from markdown_pages import ROOT, table_rows

PAGE = Path("docs/use/troubleshooting.md")
COLUMN = "the node or the log says"


def said(folder: Path) -> list[str]:
    """Return every text in the code of a folder, "…" standing for what is filled in."""
    texts = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(_constant(part) for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[sd]", "…", node.value))
    return texts


def _constant(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "…"


def test_every_text_on_the_page_is_one_that_the_code_says() -> None:
    texts = said(ROOT / "dci_core") + said(ROOT / "nodes")
    first = [row[0] for row in table_rows(PAGE, f"| {COLUMN} |")]
    second = [row[1] for row in table_rows(PAGE, f"| when | {COLUMN} |")]
    quotes = [quote for cell in (*first, *second) for quote in re.findall(r"`([^`]+)`", cell)]
    assert len(quotes) > 30
    unsaid = [quote for quote in quotes if not any(quote in text for text in texts)]
    assert not unsaid
