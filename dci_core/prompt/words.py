"""The words of a prompt: where V* and its class noun stand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import UserInputError

_WEIGHT = r"(?::\s*[-+.\d]+)?"
_CLOSED = rf"(?:\s*{_WEIGHT}\))*"  # emphasis that ends behind a word
_OPENED = r"(?:\(\s*)*"  # emphasis that begins before the next one

_PHRASE_END_WORDS = """
    a an the this that these those some any each every no another my your his her its our their about above across
    after against along among around as at before behind below beneath beside besides between beyond by during for
    from in inside into like near of off on onto opposite outside over past than through to toward towards under
    underneath until up upon via with within without and or but nor so yet while when where because if though
    although not then can will would should could may might do does did versus vs who which whose is are was were be
    being has have had
"""
_PHRASE_ENDS = tuple(_PHRASE_END_WORDS.split())
"""Words that begin something new: determiners, prepositions, conjunctions, auxiliary verbs. So does any word in "-ing"."""


def check_placeholder(placeholder: str, class_noun: str) -> None:
    """Refuse a placeholder that prompts could not carry.

    Raises:
        UserInputError: it is empty, too long, holds white space, brackets, colon, comma or backslash, or is
            a word of the class noun.
    """
    if not re.fullmatch(r"[^\s()\[\]\\:,]{1,32}", placeholder):
        raise UserInputError(
            f"The placeholder {placeholder!r} cannot be used. Use 1 to 32 characters without spaces, brackets, "
            'colon, comma or backslash, for example "V*".'
        )
    if placeholder.lower() in class_noun.lower().split():
        raise UserInputError(
            f'The placeholder {placeholder!r} is a word of the class noun {class_noun!r}. Choose another, for example "V*".'
        )


def check_class_noun(class_noun: str) -> str:
    """Return the class noun with plain single spaces.

    Raises:
        UserInputError: it is empty, or holds brackets, colon, comma, backslash or an asterisk.
    """
    words = " ".join(class_noun.split())
    if not words or re.search(r"[()\[\]\\:,*]", words):
        raise UserInputError(
            f"The class noun {class_noun!r} cannot be used. Write the plain word for what your subject is, such as "
            '"cat" or "tortoise plushy", without V*, brackets or punctuation.'
        )
    return words


def placeholder_pattern(placeholders: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that matches any of the placeholders as a word of its own, in any letter case."""
    words = "|".join(re.escape(p) for p in sorted(placeholders, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{words})(?![\w*])", re.IGNORECASE)


def check_caption(caption: str, placeholder: str, class_noun: str) -> None:
    """Refuse a caption of a reference image that names the subject, whose place the trainer gives it.

    Raises:
        UserInputError: it holds the placeholder.
    """
    pattern = placeholder_pattern([placeholder])
    if pattern.search(caption):
        around = pattern.split(merge_concept_phrase(caption, placeholder, class_noun))[-1].strip(" ,.")
        raise UserInputError(
            f"The caption {caption!r} names the subject. The trainer writes {placeholder} {class_noun} into each prompt and adds "
            f'the caption behind it, so write only what is around the subject, such as "{around or "on a wooden table"}".'
        )


def merge_concept_phrase(prompt: str, placeholder: str, class_noun: str) -> str:
    """Return the prompt with every "V* <noun>" shortened to "V*"; emphasis around any of its words stays.

    >>> merge_concept_phrase("a (V* cat:1.2), sleeping", "V*", "cat")
    'a (V*:1.2), sleeping'
    """
    gap = rf"({_CLOSED})\s+({_OPENED})"
    words = "".join(gap + re.escape(word) for word in class_noun.split())
    phrase = re.compile(rf"((?<!\w){re.escape(placeholder)}){words}(?!\w)", re.IGNORECASE)

    def star_alone(match: re.Match[str]) -> str:
        star, *brackets = match.groups()
        text = star
        for closed, opened in zip(brackets[::2], brackets[1::2]):
            text += closed
            text = f"{text} {opened}".rstrip() if text.endswith(")") else opened + text
        return text

    return _without_empty_brackets(phrase.sub(star_alone, prompt))


def add_class_noun(prompt: str, placeholder: str, class_noun: str, others: Sequence[str] = ()) -> str:
    """Return the prompt with the class noun behind every "V*" that lacks it, inside the emphasis around "V*".

    A concept is trained as "V* <noun>", and "V*" alone is not the subject. "V*" has its noun when the noun stands directly
    behind it, in singular or plural, or in singular after one to three other words. Between these words there may be
    white space and emphasis; all else ends the phrase that "V*" begins: punctuation, other placeholders, and determiners,
    prepositions, conjunctions and forms of "to be" and "to have". A plural after other words does not count, because it
    need not be the subject ("V* chasing cats"). Names behind "embedding:" are left alone. A second time changes nothing.

    >>> add_class_noun("a V* in snow, (v*:1.2)", "V*", "cat")
    'a V* cat in snow, (v* cat:1.2)'
    >>> add_class_noun("V*'s hat, V* on a cat, V*, cat", "V*", "cat")
    "V* cat's hat, V* cat on a cat, V* cat, cat"
    >>> add_class_noun("a V* cat, (V*:1.2) cat, two V* Cats, V* (fluffy little cat)", "V*", "cat")
    'a V* cat, (V*:1.2) cat, two V* Cats, V* (fluffy little cat)'

    Args:
        prompt: any text.
        placeholder: usually "V*"; it counts as a word of its own only, in any letter case.
        class_noun: the concept's noun, one or more words.
        others: placeholders of other concepts.
    """
    gap = rf"{_CLOSED}\s+{_OPENED}"
    ends = "|".join(re.escape(word) for word in (*_PHRASE_ENDS, placeholder, *others))
    word = rf"{gap}(?!(?:{ends}|\w+ing)(?!\w))\w[\w'’-]*"
    noun = "".join(gap + re.escape(part) for part in class_noun.split())
    plural = rf"{noun}e?s|{re.sub('y$', 'ies', noun)}"
    has_noun = re.compile(rf"(?:{plural}|(?:{word}){{,3}}{noun})(?!\w)", re.IGNORECASE)
    star_or_file = re.compile(rf"embedding:[^\s(),]+|{placeholder_pattern([placeholder]).pattern}", re.IGNORECASE)

    def completed(match: re.Match[str]) -> str:
        is_file = ":" in match.group()  # a placeholder holds no colon
        return match.group() if is_file or has_noun.match(prompt, match.end()) else f"{match.group()} {class_noun}"

    return star_or_file.sub(completed, prompt)


def _without_empty_brackets(prompt: str) -> str:
    """Drop emphasis around nothing, such as "(:1.2)", also nested."""
    shorter = re.sub(rf"\s*\(\s*{_WEIGHT}\s*\)", "", prompt)
    return shorter if shorter == prompt else _without_empty_brackets(shorter)


def replace_placeholder(prompt: str, placeholder: str, replacement: str) -> str:
    """Return the prompt with every placeholder replaced; an empty replacement also tidies what is left."""
    text = placeholder_pattern([placeholder]).sub(lambda _: replacement, prompt)
    if replacement:
        return text
    text = re.sub(r"\(\s+", "(", _without_empty_brackets(text))
    return re.sub(r"\s+([,.;!?)])", r"\1", " ".join(text.split())).strip(" ,")
