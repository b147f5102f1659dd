"""Marks around words of a text, which show where a tokenizer puts the tokens of these words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from .phrase import Span

OPENED, CLOSED = "\ue000", "\ue001"
"""Characters of private use. A tokenizer that knows them reads ``Mark(True)`` and ``Mark(False)``."""


class Mark(int):
    """Stands among tokens where a mark stood in the text: 1 before a word's tokens, 0 behind them."""


def marked(text: str, spans: Iterable[Span]) -> str:
    """Return a text with marks around words.

    >>> marked("a (sks dog:1.2)", [(3, 6)]).replace(OPENED, "<").replace(CLOSED, ">")
    'a (< sks > dog:1.2)'

    Args:
        text: any text.
        spans: (start, end) of each word, none within another.
    """
    for start, end in sorted(spans, reverse=True):
        text = text[:start] + marked_word(text[start:end]) + text[end:]
    return text


def letters_alone(text: str, spans: Iterable[Span]) -> list[Span]:
    """Return words without what is neither letter nor digit at their edges; such a mark may be one token with its neighbour.

    >>> [r"\\(oil\\), 2-d"[slice(*span)] for span in letters_alone(r"\\(oil\\), 2-d", [(0, 7), (9, 12)])]
    ['oil', '2-d']
    """
    inner = (re.compile(r"\w(?:.*\w)?").search(text, *span) for span in spans)
    return [match.span() for match in inner if match is not None]


def marked_word(word: str) -> str:
    """Return a word between marks."""
    return f"{OPENED} {word} {CLOSED}"


def marked_indices(tokens: Sequence[Any]) -> tuple[list[Any], list[tuple[int, ...]]]:
    """Return tokens without marks, and for each marked word the indices of its tokens among them.

    >>> marked_indices([320, Mark(1), 48760, 1929, Mark(0), 530])
    ([320, 48760, 1929, 530], [(1, 2)])
    """
    plain: list[Any] = []
    words: list[tuple[int, ...]] = []
    start = 0
    for token in tokens:
        if not isinstance(token, Mark):
            plain.append(token)
        elif token:
            start = len(plain)
        else:
            words.append(tuple(range(start, len(plain))))
    return plain, words
