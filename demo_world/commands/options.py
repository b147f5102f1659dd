"""Kinds of command-line options; what is nonsense is told in a line, before anything long begins."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any


def positive_int(text: str) -> int:
    """An integer of 1 or more."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of 1 or more, but is {text!r}")
    return value


def positive_float(text: str) -> float:
    """A finite number above 0."""
    value = _number(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"must be a number above 0, but is {text!r}")
    return value


def share(text: str) -> float:
    """A share, 0 … 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 to 1, but is {text!r}")
    return value


def _number(text: str) -> float:
    """The number that a text says, NaN where it says none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


class Part(argparse.Action):
    """Takes two integers K N with 0 <= K < N: every N-th from the K-th on, counted from 0."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Check and keep the two."""
        first, step = (int(value) for value in values or ())
        if not 0 <= first < step:
            raise argparse.ArgumentError(self, f"K must be 0 or more and below N, but K is {first} and N is {step}")
        setattr(namespace, self.dest, (first, step))


def add_part(parser: argparse.ArgumentParser, what: str) -> None:
    """Give a command the option --part K N, None without it; `what` is counted."""
    text = f"only every N-th {what}, from the K-th on; K counts from 0"
    parser.add_argument("--part", type=int, nargs=2, action=Part, metavar=("K", "N"), help=text)
