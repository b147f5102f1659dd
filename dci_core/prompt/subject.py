"""A subject that any words name, such as "sks dog" of a LoRA.

It takes no concept of ours: the equations ask only which tokens are the subject's, and for a prompt with another noun there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import UserInputError
from .auxiliary_noun import COMMON_NOUNS
from .common_words import COMMON_WORDS
from .pairs import check_auxiliary_noun
from .phrase import WEIGHT, Phrase, phrases
from .plurals import plural_forms, plural_of
from .words import EMBEDDING, check_class_noun, placeholder_pattern, plain_noun

KINDS = (*COMMON_NOUNS, *["man", "woman", "boy", "girl", "child", "baby", "animal", "toy", "cartoon", "character"])
"""Plain words for what a subject is."""
_SINGULARS = {plural_of(noun): noun for noun in KINDS if plural_of(noun) != noun}
_KNOWN = COMMON_WORDS | set(KINDS)


@dataclass(frozen=True)
class Subject:
    """The words of prompts that name a subject.

    Args:
        parts: phrases that are each looked for, such as "sks dog", or "miku" and "1girl"; nouns in singular.
        class_noun: the plain word for what it is; "" is not known.
    """

    parts: tuple[str, ...]
    class_noun: str = ""

    @property
    def text(self) -> str:
        """As one writes it."""
        return ", ".join(self.parts)

    @property
    def example(self) -> str:
        """A prompt with it."""
        return f"{self.text}, in times square" if len(self.parts) > 1 else f"a {self.text} in times square"

    @property
    def embeddings(self) -> tuple[str, ...]:
        """Names of the embeddings among its words."""
        words = self.text.replace(",", " ").split()
        return tuple(word.removeprefix(EMBEDDING) for word in words if word.startswith(EMBEDDING))

    @property
    def nouns(self) -> tuple[str, ...]:
        """The plain words for what it is: the class noun, and each part's noun."""
        return tuple(filter(None, dict.fromkeys([self.class_noun, *(_noun_of(part) for part in self.parts)])))

    @property
    def triggers(self) -> tuple[str, ...]:
        """The words of its parts that say nothing else: "sks" of "sks dog"."""
        words = [word for part in self.parts for word in part.split()]
        return tuple(word for word in dict.fromkeys(words) if word.lower() not in _KNOWN and not re.match(r"\d", word))

    def completed(self, names: Sequence[tuple[str, str]]) -> Subject:
        """Return the subject with the class noun behind parts that are a concept's name alone, which is not the subject without.

        Args:
            names: a concept's placeholder or file, and its class noun.
        """
        known = {name.lower(): noun for name, noun in names}
        parts = tuple(f"{part} {known[part.lower()]}" if part.lower() in known else part for part in self.parts)
        return replace(self, parts=parts, class_noun=self.class_noun or class_noun_of(parts))

    def phrases_in(self, text: str, part: str) -> list[Phrase]:
        """Return where a text says a part. One word alone may stand in plural, or have the class noun behind it."""
        return self._phrases_in(text, part) or self._phrases_in(text, plain_noun(part))

    def _phrases_in(self, text: str, part: str) -> list[Phrase]:
        first, _, rest = part.partition(" ")
        if not first:
            return []
        if rest:
            return [each for each in phrases(text, placeholder_pattern([first]).pattern, rest, []) if each.noun]
        forms = [first] if first.startswith(EMBEDDING) else [first, *plural_forms(first)]
        noun = "" if first.lower() == self.class_noun.lower() else self.class_noun
        found = phrases(text, placeholder_pattern(forms).pattern, noun, [])
        return [
            each if each.noun else replace(each, is_plural=len(text[slice(*each.star)]) > len(first)) for each in found
        ]

    def checked_noun(self, auxiliary_noun: str) -> str:
        """Return an auxiliary noun as ``plain_noun`` makes it.

        Raises:
            UserInputError: it says the subject, or cannot be used.
        """
        noun = check_auxiliary_noun(auxiliary_noun, self.text, self.class_noun)
        for own in self.nouns:
            check_auxiliary_noun(noun, self.text, own)
        for trigger in self.triggers:
            check_auxiliary_noun(noun, trigger, self.class_noun)
        return noun


def read_subject(text: str, class_noun: str = "") -> Subject:
    """Return the subject that a user has written.

    >>> read_subject("a sks dog")
    Subject(parts=('sks dog',), class_noun='dog')
    >>> read_subject("miku, 1girl")
    Subject(parts=('miku', '1girl'), class_noun='girl')

    Args:
        text: words, with commas between phrases that are each looked for; emphasis is left out.
        class_noun: the plain word for what it is; "" takes that of a phrase.

    Raises:
        UserInputError: no word is left, or the class noun cannot be used.
    """
    plain = re.sub(rf"(?<!\\){WEIGHT}\)|(?<!\\)\(", " ", text)  # an escaped bracket is part of the name
    found = {part.lower(): part for part in reversed([_part(each) for each in plain.split(",")]) if part}
    parts = tuple(reversed(found.values()))
    if not parts:
        raise UserInputError(
            f'The subject {text!r} has no words. Write the words of your prompt that name it, for example "sks dog", or leave it '
            "empty for the V* of an applied concept."
        )
    return Subject(parts, check_class_noun(class_noun) if class_noun.strip() else class_noun_of(parts))


def class_noun_of(parts: Sequence[str]) -> str:
    """Return the last part's noun that is a plain word, else the last part's; "" without any."""
    nouns = list(filter(None, map(_noun_of, reversed(parts))))
    return next((noun for noun in nouns if noun.lower() in _KNOWN), nouns[0] if nouns else "")


def _part(text: str) -> str:
    """Return a phrase with its noun in singular, without article and weight; marks at its end may belong to a name."""
    text = re.sub(rf"(?<!{EMBEDDING[:-1]})(?<=[^\W\d]):\s*[-+.\d]+\s*$", "", text)
    *before, last = plain_noun(text).split() or [""]
    if not re.search(r"\w", last):
        return ""
    mark = re.search(r"(?:[!?]+|(?<=\w\.\w)\.)\s*$", text)
    return " ".join([*before, _SINGULARS.get(last.lower(), last)]) + (mark.group().strip() if mark else "")


def _noun_of(part: str) -> str:
    """Return a phrase's last word, of a phrase of one word only if it is a known one."""
    *before, last = part.split()
    noun = re.sub(r"^[\W\d]+|\W+$", "", last)
    if last.startswith(EMBEDDING) or not (before or noun.lower() in _KNOWN):
        return ""
    return noun
