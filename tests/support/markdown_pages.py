"""The Markdown pages of this repository: their prose, links and headings, outside tables and code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HELP_PAGES = Path("web/docs")
_FENCE = re.compile(r"\s*```")
_HEADING = re.compile(r"#+ +(.*)")
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`]*`")


def pages() -> list[Path]:
    """Return every page, hidden folders left out."""
    found = (page.relative_to(ROOT) for page in ROOT.rglob("*.md"))
    return sorted(page for page in found if not any(part.startswith(".") for part in page.parts))


def lines_outside_code(page: Path) -> Iterator[tuple[int, str]]:
    """Return the numbered lines of a page that stand in no code block, fenced or indented after an empty line."""
    fenced = indented = False
    before = ""
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            indented = line.startswith("    ") and (indented or not before.strip())
            if not indented:
                yield number, line
        before = line


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Return the numbered lines of a page that can be wrapped, each without the targets of its links."""
    for number, line in lines_outside_code(page):
        if not line.lstrip().startswith(("|", "<!--")):
            yield number, re.sub(r"\]\([^)\s]+\)", "]", re.sub(r"https?://\S+", "", line))


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Return the targets of a page's links and pictures, also of those broken over lines, with their line numbers."""
    numbered = list(lines_outside_code(page))
    text = "\n".join(_CODE.sub("", line) for _, line in numbered)
    for match in _LINK.finditer(text):
        yield numbered[text.count("\n", 0, match.start())][0], match[1]


def folder_of_links(page: Path) -> Path:
    """Return what a page's relative links begin at: its folder, or where ComfyUI takes the pictures of a help page from."""
    return HELP_PAGES if HELP_PAGES in page.parents else page.parent


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for _, line in lines_outside_code(page):
        if heading := _HEADING.fullmatch(line):
            plain = re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            found.append(f"{plain}-{found.count(plain)}" if plain in found else plain)
    return set(found)


def table_rows(page: Path, header: str) -> list[list[str]]:
    """Return the cells of every row of a page's tables whose header line begins with a text.

    Args:
        page: from ``pages``.
        header: such as "| equation |".
    """
    rows: list[list[str]] = []
    within = False
    for _, line in lines_outside_code(page):
        if line.startswith(header):
            within = True
        elif not line.startswith("|"):
            within = False
        elif within and not line.startswith("|---"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows


def code_blocks(page: Path, language: str) -> list[str]:
    """Return what stands in the fenced code blocks of a language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
