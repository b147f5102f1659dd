"""Tables of the study as text."""

from __future__ import annotations

import csv
import io

from study.statistics import Array, bootstrap

AXES = ("fidelity", "editability")


def with_interval(values: Array, form: str = ".2f") -> str:
    """Return the mean of values of each subject with its interval."""
    mean, low, high = bootstrap(values, float)
    return f"{mean:{form}} ({low:{form}} … {high:{form}})"


def as_csv(table: list[list[str]]) -> str:
    """Return a table as a CSV file's text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def as_markdown(table: list[list[str]]) -> str:
    """Return the table without the fidelity of each kind of prompts, which stays in the CSV file."""
    shown = [place for place, name in enumerate(table[0]) if not name.endswith(f": {AXES[0]}")]
    table = [[line[place] for place in shown] for line in table]
    lines = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])
