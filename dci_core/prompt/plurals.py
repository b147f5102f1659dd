"""Plurals of English nouns: the regular ones, and those of everyday things that are not."""

from __future__ import annotations

import re

_PAIRS = """
    man/men woman/women snowman/snowmen child/children person/people foot/feet tooth/teeth goose/geese mouse/mice
    ox/oxen fish/fish sheep/sheep deer/deer knife/knives wife/wives leaf/leaves loaf/loaves shelf/shelves wolf/wolves
    calf/calves elf/elves scarf/scarves
"""
_IRREGULAR = dict(pair.split("/") for pair in _PAIRS.split())


def plural_of(noun: str) -> str:
    """Return the plural of a noun of one or more words: that of its last word.

    >>> [plural_of(noun) for noun in ("dog", "bench", "butterfly", "toy", "tea box", "Arctic wolf")]
    ['dogs', 'benches', 'butterflies', 'toys', 'tea boxes', 'Arctic wolves']
    """
    *before, word = noun.split(" ")
    if word.lower() in _IRREGULAR:
        plural = _IRREGULAR[word.lower()]
    elif re.search(r"(?:s|x|z|ch|sh)$", word, re.IGNORECASE):
        plural = f"{word}es"
    else:
        plural = re.sub(r"(?<=[^aeiou\W])y$", "ie", word, flags=re.IGNORECASE) + "s"
    return " ".join([*before, plural])


def plural_forms(word: str) -> list[str]:
    """Return whatever is read as the plural of a word, also what is not quite right: "buss", "potatos"."""
    return list(dict.fromkeys([plural_of(word), f"{word}s", f"{word}es", re.sub("y$", "ies", word)]))
