"""Tables of the study as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from comfyui_dci.dci_core.files import write_atomically

from study.statistics import Array, Interval, interval_over_subjects

MISSING = "missing"
Table = list[list[str]]
"""Lines of cells, the heads first."""


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all, in UTF-8 with the text's own line ends, whatever the machine's are."""
    write_atomically(path, lambda made: made.write_bytes(text.encode("utf-8")))


def told(interval: Interval, form: str = ".2f") -> str:
    """A number with its interval, e.g. "0.52 (0.49 … 0.55)"."""
    mean, low, high = interval
    return f"{mean:{form}} ({low:{form}} … {high:{form}})"


def with_interval(values: Array, form: str = ".2f") -> str:
    """Return the mean with its interval of values of each subject, [subjects], or of its trainings, [subjects, trainings]."""
    return told(interval_over_subjects(values.reshape(len(values), -1).mean(axis=1)), form)


def as_csv(table: Table) -> str:
    """Return a table as a CSV file's text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def as_markdown(table: Table, columns: Sequence[str] = ()) -> str:
    """Return a table, or some of its columns by their heads."""
    shown = [place for place, head in enumerate(table[0]) if not columns or head in columns]
    lines = ["| " + " | ".join(line[place] for place in shown) + " |" for line in table]
    return "\n".join([lines[0], "|" + "---|" * len(shown), *lines[1:]])
