"""docs/use/composition.md names test files that exist."""

from __future__ import annotations

import re
from pathlib import Path

from markdown_pages import ROOT, table_rows

PAGE = Path("docs/use/composition.md")
TESTS = ROOT / "tests" / "host" / "sampling"


def test_every_line_has_tests_that_exist() -> None:
    rows = table_rows(PAGE, "| beside |")
    assert len(rows) > 15
    for beside, _, tests in rows:
        names = re.findall(r"`(test_\w+\.py)`", tests)
        assert names and all((TESTS / name).is_file() for name in names), f"{beside}: {tests}"
