"""The phrase that V* begins: "V*", up to three other words, and the class noun in singular or plural.

Whatever has to know where the subject's noun stands asks here: the prompts of both branches, the token sets, captions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .plurals import plural_forms

WEIGHT = r"(?::\s*[-+.\d]+)?"
_CLOSED = rf"(?:\s*{WEIGHT}\))*"  # emphasis that ends behind a word
_OPENED = r"(?:\(\s*)*"  # emphasis that begins before the next one
_GAP = rf"(?=[\s():]){_CLOSED}\s*{_OPENED}"
_SPLIT_GAP = re.compile(rf"({_CLOSED})[\s,]*({_OPENED})")
_VERB = re.compile(r"[^\Wsu]s(?!\w)", re.IGNORECASE)  # a word in "-s" but "-ss" and "-us", such as "eats"
FILE = r"embedding:[^\s(),]+"

_PHRASE_END_WORDS = """
    a an the this that these those some any each every no another my your his her its our their about above across
    after against along among around as at before behind below beneath beside besides between beyond by during for
    from in inside into like near of off on onto opposite outside over past than through to toward towards under
    underneath until up upon via with within without and or but nor so yet while when where because if though
    although not then can will would should could may might do does did versus vs who which whose is are was were be
    being has have had
"""
PHRASE_ENDS = tuple(_PHRASE_END_WORDS.split())
"""Words that begin something new: determiners, prepositions, conjunctions, auxiliary verbs. So does any word in "-ing"."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Phrase:
    """Where a V* and its noun stand in a text, as (start, end) of characters.

    Args:
        star: of the placeholder.
        noun: of each word of the class noun; () where the phrase has none.
        is_plural: whether the noun stands in plural.
        is_direct: whether nothing but emphasis and white space stands between the two.
    """

    star: Span
    noun: tuple[Span, ...] = ()
    is_plural: bool = False
    is_direct: bool = False

    @property
    def words(self) -> tuple[Span, ...]:
        """Where its words stand, without those between the placeholder and the noun."""
        return (self.star, *self.noun)

    def is_followed_by(self, other: Phrase, text: str) -> bool:
        """Tell whether nothing but commas, emphasis and white space stands between this phrase and a later one."""
        return _SPLIT_GAP.fullmatch(text, self.words[-1][1], other.star[0]) is not None


def phrases(text: str, star: str, class_noun: str, ends: Sequence[str]) -> list[Phrase]:
    """Find every V* of a text, and its noun.

    Between the words there may be white space and emphasis; all else ends the phrase: punctuation, ``PHRASE_ENDS``, and
    words in "-ing". Of several nouns the first counts; not a plural behind what may be a verb, for "V* eats cats" is not
    about cats that are V*. Within names behind "embedding:" nothing is found.

    Args:
        text: a prompt or caption.
        star: a pattern of the placeholder as a word of its own.
        class_noun: the concept's noun, one or more words; "" finds the placeholder alone.
        ends: placeholders, which begin a phrase of their own.
    """
    strangers = "|".join(re.escape(word) for word in (*PHRASE_ENDS, *ends))
    word = rf"{_GAP}(?!(?:{strangers}|\w+ing)(?!\w))\w[\w'’-]*"
    noun_words = noun_pattern(class_noun) if class_noun else ""
    with_noun = re.compile(rf"(?P<between>(?:{word}){{,3}}?){_GAP}{noun_words}(?!\w)", re.IGNORECASE)
    found = []
    for match in re.finditer(rf"(?P<star>{star})|{FILE}", text, re.IGNORECASE):
        if match["star"] is None:
            continue
        noun = with_noun.match(text, match.end()) if class_noun else None
        if noun is None or (noun["plural"] and _VERB.search(noun["between"])):
            found.append(Phrase(match.span()))
            continue
        words = tuple(noun.span(f"word{number}") for number in range(len(class_noun.split())))
        found.append(Phrase(match.span(), words, noun["plural"] is not None, not noun["between"]))
    return found


def noun_pattern(class_noun: str) -> str:
    """Return a pattern of a noun in singular or plural, with emphasis around any of its words.

    Its groups are "word0" … for each word and "plural" for the last one's plural.
    """
    *before, last = class_noun.split()
    plural = "|".join(re.escape(form) for form in plural_forms(last) if form != last)
    words = [re.escape(word) for word in before] + [rf"(?P<plural>{plural})|{re.escape(last)}"]
    return _GAP.join(f"(?P<word{number}>{word})" for number, word in enumerate(words))


def replaced(text: str, phrase: Phrase, mark: str, more: Sequence[Span] = ()) -> tuple[str, int]:
    """Put a mark in a phrase's place: where its noun stood. Words between the two stay, and the emphasis around any of the words.

    Args:
        text: in which the phrase stands.
        phrase: with its noun, or without any.
        mark: takes its place.
        more: words that go with it, behind it.

    Returns:
        The text up to where the last of the words ended, and where that was in ``text``.
    """
    start, end = phrase.star
    words = [*(phrase.words if phrase.is_direct or not phrase.noun else phrase.noun), *more]
    merged, last = joined(text, words, mark), words[-1][1]
    if phrase.is_direct or not phrase.noun:
        return text[:start] + merged, last
    return without_word(text[:start], text[end : words[0][0]] + merged), last


def joined(text: str, words: Sequence[Span], mark: str) -> str:
    """Return what is left when a mark takes the place of several words: the mark, and the emphasis around any of them."""
    for (_, end), (start, _) in pairwise(words):
        gap = _SPLIT_GAP.fullmatch(text, end, start)
        closed, opened = gap.groups() if gap is not None else ("", "")
        mark += closed
        mark = f"{mark} {opened}".rstrip() if mark.endswith(")") else opened + mark
    return mark


def without_word(before: str, after: str) -> str:
    """Return a text without the word that stood between its two parts, nor the emphasis that was its alone."""
    while before.endswith("(") and (closing := re.match(rf"\s*{WEIGHT}\)", after)):
        before, after = before[:-1], after[closing.end() :]
    if re.match(rf"\s*{WEIGHT}\)", after):  # the end of emphasis that began further in front
        return before.rstrip() + after.lstrip()
    return before + (after.lstrip() if not before or before[-1] in "( \t\n" else after)
