"""Every page's links lead somewhere, and its prose can be read in a narrow window."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_pages import ROOT, anchors, folder_of_links, links, pages, prose

MOST_COLUMNS = 100
GENERATED = {Path("docs/evidence/results.md")}
"""Written by ``study/report.py``."""


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_relative_link_resolves(page: Path) -> None:
    for number, target in links(page):
        if "://" in target:
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (ROOT / folder_of_links(page) / path).resolve() if path else ROOT / page
        assert file.exists(), f"{page}:{number}: there is no {target}"
        if anchor:
            assert anchor in anchors(file.relative_to(ROOT)), (
                f"{page}:{number}: {path or page} has no heading #{anchor}"
            )


@pytest.mark.parametrize("page", [page for page in pages() if page not in GENERATED], ids=str)
def test_prose_has_at_most_100_columns(page: Path) -> None:
    long = [f"{page}:{number}: {len(line)}" for number, line in prose(page) if len(line) > MOST_COLUMNS]
    assert not long


def test_the_index_leads_to_every_page_of_the_documentation() -> None:
    index = Path("docs/index.md")
    reached = {(ROOT / "docs" / target.partition("#")[0]).resolve() for _, target in links(index)}
    expected = {ROOT / page for page in pages() if page.parts[0] == "docs" and page != index}
    assert expected <= reached


def test_the_readme_opens_with_a_promise_and_no_measured_figure() -> None:
    lines = [line for _, line in prose(Path("README.md"))]
    opening = "\n".join(lines[: lines.index("## Install")])
    assert not re.search(r"\d\.\d\d", opening)
