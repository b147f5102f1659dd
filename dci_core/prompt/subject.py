"""A subject that any words of a prompt name, such as "sks dog" of a LoRA: where it stands, and the prompt without it.

It takes no concept of ours: the equations ask only which tokens are the subject's, and for a prompt with another noun there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..errors import UserInputError
from .auxiliary_noun import COMMON_NOUNS
from .common_words import COMMON_WORDS
from .pairs import AUTO, PromptPair, check_auxiliary_noun
from .phrase import WEIGHT, Phrase, Span, phrases, replaced
from .plurals import plural_forms, plural_of
from .words import (
    EMBEDDING,
    PLURAL,
    check_class_noun,
    class_nouns_in,
    placeholder_pattern,
    plain_noun,
    replace_placeholder,
    without_empty_brackets,
)

NOUN_PLACE = "\ue002"
"""Stands in a text where the auxiliary noun goes."""
Occurrence = tuple[Phrase, ...]
"""Neighbouring phrases that name the subject once."""


@dataclass(frozen=True)
class Subject:
    """The words of prompts that name a subject.

    Args:
        parts: phrases that are each looked for, such as "sks dog", or "miku" and "1girl".
        class_noun: the plain word for what it is; "" is not known.
    """

    parts: tuple[str, ...]
    class_noun: str = ""

    @property
    def text(self) -> str:
        """As one writes it."""
        return ", ".join(self.parts)

    @property
    def embeddings(self) -> tuple[str, ...]:
        """Names of the embeddings among its words."""
        words = self.text.replace(",", " ").split()
        return tuple(word.removeprefix(EMBEDDING) for word in words if word.startswith(EMBEDDING))

    @cached_property
    def example(self) -> str:
        """A prompt with it."""
        return f"{self.text}, in times square" if len(self.parts) > 1 else f"a {self.text} in times square"


@dataclass(frozen=True)
class SubjectPrompt:
    """A prompt and where it names its subject.

    Args:
        prompt: P.
        subject: in it.

    Raises:
        UserInputError: the subject does not stand in it.
    """

    prompt: str
    subject: Subject

    def __post_init__(self) -> None:
        if not self.occurrences:
            raise UserInputError(
                f'The prompt {self.prompt!r} does not contain the subject "{self.subject.text}". Write the same words in both, for '
                f'example "{self.subject.example}"; in the prompt up to three other words may stand behind the first one.'
                f"{self._advice()}"
            )

    @cached_property
    def occurrences(self) -> tuple[Occurrence, ...]:
        """Each time that the prompt names the subject; neighbouring parts of it are one time."""
        groups: list[list[tuple[int, Phrase]]] = []
        for part, phrase in self._phrases:
            last = groups[-1] if groups else []
            goes_on = (
                bool(last)
                and part not in [number for number, _ in last]
                and (phrase.is_direct or not phrase.noun)
                and last[-1][1].is_followed_by(phrase, self.prompt)
            )
            groups[-1].append((part, phrase)) if goes_on else groups.append([(part, phrase)])
        return tuple(tuple(phrase for _, phrase in group) for group in groups)

    @property
    def words(self) -> tuple[Span, ...]:
        """Where the subject's words stand, as (start, end): their tokens are T(P)."""
        return tuple(word for _, phrase in self._phrases for word in phrase.words)

    @cached_property
    def template(self) -> str:
        """P with ``NOUN_PLACE`` for each occurrence of the subject; a noun in plural leaves ``PLURAL`` behind it."""
        text = self.prompt
        for first, *others in reversed(self.occurrences):
            more = [word for phrase in others for word in phrase.words]
            is_plural = (others or [first])[-1].is_plural
            before, end = replaced(text, first, NOUN_PLACE + PLURAL * is_plural, more)
            text = before + text[end:]
        return without_empty_brackets(text)

    def pair(self, auxiliary_noun: str, entire_prompt: bool = True) -> PromptPair:
        """Return both branches' prompts.

        Args:
            auxiliary_noun: a common noun other than the class noun.
            entire_prompt: False gives the paper's "w/o entire prompt" ablation: P = the subject, P_a = the rest.

        Raises:
            UserInputError: the auxiliary noun cannot be used, or nothing is left for the ablation.
        """
        if not entire_prompt:
            rest = replace_placeholder(self.template, NOUN_PLACE, "")
            if not re.search(r"\w", rest):
                raise UserInputError(
                    f'Nothing is left of the prompt {self.prompt!r} without "{self.subject.text}". Describe a scene as well, or turn '
                    "entire_prompt on."
                )
            return PromptPair(self.subject.text, rest, rest)
        noun = check_auxiliary_noun(auxiliary_noun, self.subject.text, self.subject.class_noun)
        return PromptPair(self.prompt, replace_placeholder(self.template, NOUN_PLACE, noun), self.template)

    def warnings(self, auxiliary_noun: str) -> list[str]:
        """Return what is read otherwise than it seems to be meant, and what to write instead.

        Args:
            auxiliary_noun: that stands in P_a; "" is none.
        """
        subject, text = self.subject, self.subject.text
        found = {part for part, _ in self._phrases}
        warnings = [
            f'"{part}" of the subject does not stand in the prompt'
            for number, part in enumerate(subject.parts)
            if number not in found
        ]
        if (
            len(subject.parts) > 1
            and len(self.occurrences) > 1
            and any(len(each) < len(found) for each in self.occurrences)
        ):
            warnings.append(
                "parts of the subject stand apart, and each gets an auxiliary noun: write them side by side, if they name one subject"
            )
        alone = [word for part in subject.parts for word in self._left_alone(part)]
        left = alone + (class_nouns_in(self.template, subject.class_noun) if subject.class_noun else [])
        if left:
            words = [f'"{word}"' for word in dict.fromkeys(left)]
            warnings.append(
                f"left in the auxiliary prompt as context, although training may have tied it to your subject: {', '.join(words)}; "
                f'if your subject is meant, write "{text}"; if not, write another word'
            )
        if subject.class_noun and (tied := class_nouns_in(auxiliary_noun, subject.class_noun)):
            warnings.append(
                f'the auxiliary noun says "{tied[0]}", which training may have tied to your subject: choose another, or {AUTO}'
            )
        if tags := re.findall(r"<(?:lora|lyco|hypernet):[^>]*>", self.prompt):
            warnings.append(
                f'"{tags[0]}" loads nothing, ComfyUI reads it as words: take it out, and load the file by LoraLoader'
            )
        if not subject.class_noun:
            warnings.append(
                f'class_noun is empty, and "{text}" does not say what it is: fill it in, or see that the auxiliary noun is '
                "no word for it"
            )
        return warnings

    def _advice(self) -> str:
        """Return what to do in the cases where the words do stand in the prompt, as the end of an error."""
        prompt, text = self.prompt.lower(), self.subject.text.lower()
        if self.subject.embeddings:
            return " An embedding has a space or a bracket in front of it, and a space, comma or bracket behind it."
        if "\\(" in prompt and "\\" not in text:
            return " Copy it from the prompt: a bracket that the prompt writes as \\( is written so in subject, too."
        if any(part.lower() in prompt for part in self.subject.parts):
            return " It stands there as a part of a longer word: put spaces around it."
        return ""

    @cached_property
    def _phrases(self) -> list[tuple[int, Phrase]]:
        """The phrases that name the subject and the numbers of their parts, in the order of the prompt; of two in one place the longer."""
        found = []
        for number, part in enumerate(self.subject.parts):
            found += [(number, phrase) for phrase in _phrases_of(part, self.prompt)]
        found.sort(key=lambda one: (-len(one[1].words), one[1].star))
        taken: set[int] = set()
        kept = []
        for number, phrase in found:
            places = {place for word in phrase.words for place in range(*word)}
            if not places & taken:
                taken |= places
                kept.append((number, phrase))
        return sorted(kept, key=lambda one: one[1].star)

    def _left_alone(self, part: str) -> list[str]:
        """Return a part's first word where it stands without the others, if it is a word of no other use."""
        first, rest = _first_and_rest(part)
        if not rest or first.lower() in COMMON_WORDS:
            return []
        alone = [phrase.star for phrase in phrases(self.template, placeholder_pattern([first]).pattern, rest, [])]
        return [self.template[slice(*star)] for star in alone]


def read_subject(text: str, class_noun: str = "") -> Subject:
    """Return the subject that a user has written.

    >>> read_subject("a sks dog")
    Subject(parts=('sks dog',), class_noun='dog')
    >>> read_subject("miku, 1girl")
    Subject(parts=('miku', '1girl'), class_noun='girl')

    Args:
        text: words, with commas between phrases that are each looked for; emphasis is left out.
        class_noun: the plain word for what it is; "" takes the last phrase's noun.

    Raises:
        UserInputError: no word is left, or the class noun cannot be used.
    """
    plain = re.sub(rf"(?<!\\){WEIGHT}\)|(?<!\\)\(", " ", text)  # an escaped bracket is part of the name
    parts = tuple(dict.fromkeys(part for part in map(plain_noun, plain.split(",")) if re.search(r"\w", part)))
    if not parts:
        raise UserInputError(
            f'The subject {text!r} has no words. Write the words of your prompt that name it, for example "sks dog", or leave it '
            "empty for the V* of an applied concept."
        )
    return Subject(parts, check_class_noun(class_noun) if class_noun.strip() else _noun_of(parts))


def _noun_of(parts: Sequence[str]) -> str:
    """Return the last phrase's last word, of a phrase of one word only if it is a known one."""
    known = COMMON_WORDS | {plural_of(noun) for noun in COMMON_NOUNS}
    for part in reversed(parts):
        *before, last = part.split()
        noun = re.sub(r"^[\W\d]+|\W+$", "", last)
        if noun and not last.startswith(EMBEDDING) and (before or noun.lower() in known):
            return noun
    return ""


def _first_and_rest(part: str) -> tuple[str, str]:
    first, _, rest = part.partition(" ")
    return first, rest


def _phrases_of(part: str, text: str) -> list[Phrase]:
    """Return where a text says a phrase; one word alone may stand in plural."""
    first, rest = _first_and_rest(part)
    if rest:
        return [phrase for phrase in phrases(text, placeholder_pattern([first]).pattern, rest, []) if phrase.noun]
    if first.startswith(EMBEDDING):
        return phrases(text, placeholder_pattern([first]).pattern, "", [])
    either = placeholder_pattern([first, *plural_forms(first)]).pattern
    found = phrases(text, either, "", [])
    return [replace(each, is_plural=text[slice(*each.star)].lower() != first.lower()) for each in found]
