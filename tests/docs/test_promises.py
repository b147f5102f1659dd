"""docs/evidence/training-promises.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "evidence" / "training-promises.md"


def test_every_promise_has_a_test_that_exists() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 50
    for row in rows:
        promise, tests = (cell.strip() for cell in row.strip("|").split("|"))
        for test in tests.split(", "):
            file, _, name = test.partition("::")
            source = (TESTS / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{promise}: there is no {test}"
