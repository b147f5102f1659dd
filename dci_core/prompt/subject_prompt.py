"""Where a prompt names its subject, and the prompt with another noun there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from ..errors import UserInputError
from .common_words import COMMON_WORDS
from .pairs import AUTO, PromptPair
from .phrase import Phrase, Span, phrases, replaced
from .plurals import plural_of
from .subject import KINDS, Subject
from .words import (
    EMBEDDING,
    PLURAL,
    class_nouns_in,
    placeholder_pattern,
    replace_placeholder,
    without_empty_brackets,
)

NOUN_PLACE = "\ue002"
"""Stands in a text where the auxiliary noun goes."""
Occurrence = tuple[Phrase, ...]
"""Neighbouring phrases that name the subject once."""


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
                f'example "{self.subject.example}"; in the prompt up to three other words, but no preposition and none in -ing, may '
                f"stand behind the first one.{self._advice()}"
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
            auxiliary_noun: that goes into the subject's place, see ``Subject.checked_noun``.
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
            said = [part for number, part in enumerate(self.subject.parts) if number in self._found]
            return PromptPair(", ".join(said), rest, rest)
        noun = self.subject.checked_noun(auxiliary_noun)
        return PromptPair(self.prompt, replace_placeholder(self.template, NOUN_PLACE, noun), self.template)

    def warnings(self, auxiliary_noun: str) -> list[str]:
        """Return what is read otherwise than it seems to be meant, and what to write instead.

        Args:
            auxiliary_noun: that stands in P_a; "" is none.
        """
        return [
            *self._warnings_on_parts(),
            *self._warnings_on_context(),
            *(
                f'the auxiliary noun says "{tied}", which training may have tied to your subject: choose another, or {AUTO}'
                for noun in self.subject.nouns
                for tied in class_nouns_in(auxiliary_noun, noun)
            ),
            *self._warnings_on_class_noun(),
        ]

    def _warnings_on_parts(self) -> list[str]:
        warnings = [
            f'"{part}" of the subject does not stand in the prompt'
            for part in self.subject.parts
            if not self.subject.phrases_in(self.prompt, part)
        ]
        if len(self.occurrences) > 1 and any(len(each) < len(self._found) for each in self.occurrences):
            warnings.append(
                "parts of the subject stand apart, and each gets an auxiliary noun: write them side by side, if they name one subject"
            )
        return warnings

    def _warnings_on_context(self) -> list[str]:
        alone = [word for part in self.subject.parts for word in self._left_alone(part)]
        nouns = [word for noun in self.subject.nouns for word in class_nouns_in(self.template, noun)]
        behind = [] if self.subject.class_noun else self._kinds_behind()
        warnings = []
        if left := list(dict.fromkeys([*alone, *nouns, *behind])):
            wanted = f"{self.subject.text} {behind[0]}" if behind else self.subject.text
            warnings.append(
                "left in the auxiliary prompt as context, although training may have tied it to your subject: "
                f"{', '.join(map(_quoted, left))}; if your subject is meant, write {_quoted(wanted)}"
                f"{' in subject' if behind else ''}; if not, write another word"
            )
        if tags := re.findall(r"<(?:lora|lyco|hypernet):[^>]*>", self.prompt):
            warnings.append(
                f"{_quoted(tags[0])} loads nothing, ComfyUI reads it as words: take it out, and load the file by LoraLoader"
            )
        return warnings

    def _warnings_on_class_noun(self) -> list[str]:
        noun, text = self.subject.class_noun, self.subject.text
        if not noun and self._kinds_behind():
            return []  # told with what stands behind
        if not noun:
            return [
                f'class_noun is empty, and "{text}" does not say what it is: fill it in, or see that the auxiliary noun is '
                "no word for it"
            ]
        if noun in self.subject.triggers:
            return [
                f'class noun "{noun}", the last word of subject: if it does not say what your subject is, fill in class_noun'
            ]
        return []

    def _kinds_behind(self) -> list[str]:
        """Return plain words for what a subject may be that stand directly behind it."""
        kinds = "|".join(map(re.escape, [*KINDS, *map(plural_of, KINDS)]))
        return re.findall(rf"{NOUN_PLACE}{PLURAL}?\s+({kinds})(?!\w)", self.template, re.IGNORECASE)

    def _left_alone(self, part: str) -> list[str]:
        """Return a part's first word where it stands without the others, if it is a word of no other use."""
        first, _, rest = part.partition(" ")
        if not rest or first.lower() in COMMON_WORDS:
            return []
        alone = phrases(self.template, placeholder_pattern([first]).pattern, rest, [])
        return [self.template[slice(*phrase.star)] for phrase in alone]

    def _advice(self) -> str:
        """Return what to do in the cases where the words do stand in the prompt, as the end of an error."""
        prompt, subject = self.prompt.lower(), self.subject
        for part in subject.parts:
            if f"{EMBEDDING}{part}".lower() in prompt:
                return f" An embedding is named with its beginning in subject, too: {_quoted(EMBEDDING + part)}."
        if subject.embeddings:
            return " An embedding has a space or a bracket in front of it, and a space, comma or bracket behind it."
        if "\\(" in prompt and "\\" not in subject.text:
            return " Copy it from the prompt: a bracket that the prompt writes as \\( is written so in subject, too."
        if any(part.lower() in prompt for part in subject.parts):
            return " It stands there as a part of a longer word: put spaces around it."
        return ""

    @property
    def _found(self) -> set[int]:
        return {part for part, _ in self._phrases}

    @cached_property
    def _phrases(self) -> list[tuple[int, Phrase]]:
        """The phrases that name the subject and the numbers of their parts, in the order of the prompt; of two in one place the longer."""
        found = [
            (number, phrase)
            for number, part in enumerate(self.subject.parts)
            for phrase in self.subject.phrases_in(self.prompt, part)
        ]
        found.sort(key=lambda one: (-len(one[1].words), one[1].star))
        taken: set[int] = set()
        kept = []
        for number, phrase in found:
            places = {place for word in phrase.words for place in range(*word)}
            if not places & taken:
                taken |= places
                kept.append((number, phrase))
        return sorted(kept, key=lambda one: one[1].star)


def _quoted(text: str) -> str:
    return f'"{text}"'
