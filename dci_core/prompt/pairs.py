"""The two branches' prompts: P, and the auxiliary prompt P_a made from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import UserInputError
from .auxiliary_noun import COMMON_NOUNS, first_unrelated_noun
from .marks import marked_word
from .words import (
    EMBEDDING,
    class_nouns_in,
    merge_concept_phrase,
    near_misses,
    no_placeholder,
    placeholder_pattern,
    plain_noun,
    replace_placeholder,
)

AUTO = "auto"


@dataclass(frozen=True)
class PromptPair:
    """The two branches' prompts.

    Args:
        concept: P, with V* in it.
        auxiliary: P_a as one would type it.
        auxiliary_template: P_a with the placeholder standing where the auxiliary noun goes; ``words.PLURAL`` follows it
            where the noun goes in plural.
    """

    concept: str
    auxiliary: str
    auxiliary_template: str

    def with_spaces(self, nouns: Mapping[str, str]) -> PromptPair:
        """Return the pair with spaces around the auxiliary nouns, where a mark in front would be read together with one."""
        return replace(self, auxiliary=self._filled(nouns, lambda noun: f" {noun} "))

    def marked_auxiliary(self, nouns: Mapping[str, str]) -> str:
        """Return P_a with marks around the auxiliary nouns, to tell their tokens from the same words elsewhere.

        Args:
            nouns: the noun that goes where a placeholder stands in the template.
        """
        return self._filled(nouns, marked_word)

    def _filled(self, nouns: Mapping[str, str], put: Callable[[str], str]) -> str:
        text = self.auxiliary_template
        for placeholder, noun in nouns.items():
            text = replace_placeholder(text, placeholder, noun, put)
        return text


def pair_prompts(
    prompt: str, placeholder: str, class_noun: str, auxiliary_noun: str, entire_prompt: bool = True
) -> PromptPair:
    """Make P_a from P: V* goes, and the auxiliary noun stands where its noun stood, in singular or plural as that did.

    Words between V* and its noun stay; "V*" alone is replaced itself. Nothing else changes.

    Args:
        prompt: P, with the placeholder at least once.
        placeholder: usually "V*".
        class_noun: the concept's noun.
        auxiliary_noun: a common noun other than the class noun.
        entire_prompt: False gives the paper's "w/o entire prompt" ablation: P = "V* <noun>", P_a = the rest.

    Raises:
        UserInputError: the prompt lacks the placeholder, or the auxiliary noun cannot be used.
    """
    if not placeholder_pattern([placeholder]).search(prompt):
        raise UserInputError(
            f"The prompt {prompt!r} {no_placeholder(prompt, placeholder)}. Write {placeholder} where your subject belongs, "
            f'for example "a {placeholder} {class_noun} in times square".'
        )
    template = merge_concept_phrase(prompt, placeholder, class_noun)
    if not entire_prompt:
        rest = replace_placeholder(template, placeholder, "")
        if not re.search(r"\w", rest):
            raise UserInputError(
                f"Nothing is left of the prompt {prompt!r} without {placeholder} {class_noun}. "
                "Describe a scene as well, or turn entire_prompt on."
            )
        return PromptPair(f"{placeholder} {class_noun}", rest, rest)
    noun = check_auxiliary_noun(auxiliary_noun, placeholder, class_noun)
    return PromptPair(prompt, replace_placeholder(template, placeholder, noun), template)


def pair_prompts_of_several(
    prompt: str, words: Sequence[tuple[str, str]], auxiliary_nouns: Sequence[str]
) -> PromptPair:
    """Make P_a from a P that names several concepts, by giving each its own auxiliary noun.

    Args:
        prompt: P, with every placeholder at least once.
        words: placeholder and class noun of each concept.
        auxiliary_nouns: one for each concept, in the same order; other than all class nouns.

    Raises:
        UserInputError: an auxiliary noun cannot be used.
    """
    template = merge_concept_phrases(prompt, words)
    auxiliary = template
    for (placeholder, _), noun in zip(words, auxiliary_nouns, strict=True):
        for other in words:
            noun = check_auxiliary_noun(noun, *other)
        auxiliary = replace_placeholder(auxiliary, placeholder, noun)
    return PromptPair(prompt, auxiliary, template)


def merge_concept_phrases(prompt: str, words: Sequence[tuple[str, str]]) -> str:
    """Return the prompt with every concept's placeholder where its noun stood.

    Args:
        prompt: P.
        words: placeholder and class noun of each concept.
    """
    names = [placeholder for placeholder, _ in words]
    for placeholder, class_noun in words:
        prompt = merge_concept_phrase(prompt, placeholder, class_noun, names)
    return prompt


def other_noun_warnings(prompt: str, placeholder: str, class_noun: str) -> list[str]:
    """Return what there is to say of another common noun that stands behind a placeholder, where the class noun belongs.

    Args:
        prompt: as it was given.
        placeholder, class_noun: of a concept.
    """
    own = {word.lower() for word in class_noun.split()}
    pattern = re.compile(rf"(?:{placeholder_pattern([placeholder]).pattern})\s+(?P<noun>\w+)", re.IGNORECASE)
    said = dict.fromkeys(match["noun"].lower() for match in pattern.finditer(prompt))
    return [
        f'the prompt says "{placeholder} {noun}", but the concept was trained as "{placeholder} {class_noun}": write that, or apply '
        f"the concept of a {noun}"
        for noun in said
        if noun in COMMON_NOUNS and noun not in own
    ]


def prompt_warnings(
    prompt: str, pair: PromptPair, words: Sequence[tuple[str, str]], auxiliary_nouns: Sequence[str]
) -> list[str]:
    """Return what is read otherwise than it seems to be meant, and what to write instead.

    Args:
        prompt: as it was given.
        pair: both branches' prompts made from it.
        words: placeholder and class noun of each concept.
        auxiliary_nouns: that stand in P_a.
    """
    warnings = []
    for placeholder, class_noun in words:
        if left := class_nouns_in(pair.auxiliary_template, class_noun):
            warnings.append(
                f"{_quoted(left)} stays in the auxiliary prompt and counts as context, although training has tied this noun to "
                f'your subject: if your subject is meant, write the noun once, behind {placeholder}, as in "{placeholder} '
                f'{class_noun}"; if not, write another word'
            )
        if tied := class_nouns_in(", ".join(auxiliary_nouns), class_noun):
            warnings.append(
                f"the auxiliary noun says {_quoted(tied)}, which training has tied to your subject: choose another, or {AUTO}"
            )
        is_a_word = re.fullmatch(r"\w+", placeholder) or placeholder.startswith(EMBEDDING)
        grown = [] if is_a_word else near_misses(prompt, placeholder)
        if grown:
            warnings.append(f"{_quoted(grown)} is not read as {placeholder}: write {placeholder} as a word of its own")
    return warnings


def _quoted(texts: Sequence[str]) -> str:
    return " and ".join(f'"{text}"' for text in dict.fromkeys(texts))


def choose_auxiliary_nouns(
    text: str, words: Sequence[tuple[str, str]], choose: Callable[[int, str], str] | None = None
) -> list[str]:
    """Return an auxiliary noun for each concept of a prompt.

    Args:
        text: "auto", a noun, or for several concepts one noun (or "auto") for each with commas between them.
        words: placeholder and class noun of each concept, in the order of the prompt.
        choose: what "auto" gives, from the number of the concept and the words it must not share; None takes the first
            common noun.

    Raises:
        UserInputError: the number of nouns is not the number of concepts.
    """
    given = [noun.strip() for noun in text.split(",")] if len(words) > 1 else [text.strip()]
    if len(given) == 1 and given[0].lower() == AUTO:
        given = [AUTO] * len(words)
    if len(given) != len(words):
        names = " and ".join(placeholder for placeholder, _ in words)
        raise UserInputError(
            f"The prompt names {names}, but there are {len(given)} auxiliary nouns in {text!r}. Write one for each in this "
            f'order, with commas between them, for example "{", ".join(COMMON_NOUNS[: len(words)])}", or "{AUTO}".'
        )
    taken = [class_noun for _, class_noun in words]
    nouns: list[str] = []
    for number, noun in enumerate(given):
        if noun.lower() == AUTO:
            others = " ".join([*taken, *given, *nouns])
            noun = first_unrelated_noun(others) if choose is None else choose(number, others)
        nouns.append(plain_noun(noun))
    return nouns


def check_auxiliary_noun(auxiliary_noun: str, placeholder: str, class_noun: str) -> str:
    """Return the auxiliary noun as ``plain_noun`` makes it.

    Raises:
        UserInputError: nothing is left of it, it equals the class noun, holds the placeholder or prompt syntax.
    """
    noun = plain_noun(auxiliary_noun)
    hint = f'Choose another common noun, for example "{first_unrelated_noun(class_noun)}", or "{AUTO}".'
    if not noun:
        raise UserInputError(f"The auxiliary noun is empty. {hint}")
    if noun.lower() == class_noun.lower():
        raise UserInputError(
            f"The auxiliary noun {noun!r} is the concept's own class noun, which fine-tuning has tied to your subject. {hint}"
        )
    if re.search(r"[()\[\]\\:,]", noun) or placeholder_pattern([placeholder]).search(noun):
        raise UserInputError(
            f"The auxiliary noun {noun!r} must be plain words without brackets, commas or {placeholder}. {hint}"
        )
    return noun
