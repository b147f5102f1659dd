"""The words of a prompt: where V* and its class noun stand."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from ..errors import UserInputError
from .common_words import COMMON_WORDS
from .phrase import FILE, WEIGHT, Phrase, Span, noun_pattern, phrases, replaced
from .plurals import plural_of

EMBEDDING = "embedding:"
"""How the host's prompts begin the name of an embedding's file."""
PLURAL = "\u02e2"
"""Behind a placeholder, a raised "s": the noun that is put there stands in plural."""
_QUOTES = "\"'\u201c\u201d\u2018\u2019 "
_STARS = str.maketrans("\u2217\u204e\u2731\u2732\u066d", "*****")


def check_placeholder(placeholder: str, class_noun: str) -> None:
    """Refuse a placeholder that prompts could not carry.

    Raises:
        UserInputError: it is empty, too long, holds white space, brackets, colon, comma or backslash, is a word of the
            class noun, or a common word.
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
    if warning := placeholder_warning(placeholder):
        raise UserInputError(warning)


def placeholder_warning(placeholder: str) -> str | None:
    """Return what is wrong with a placeholder that is a common word, or None."""
    if placeholder.lower() not in COMMON_WORDS:
        return None
    return (
        f"The placeholder {placeholder!r} is a common word: wherever a prompt says {placeholder!r}, your subject would be read. "
        'Choose another, for example "V*", or a word that means nothing, such as "sks".'
    )


def plain_noun(text: str) -> str:
    """Return a noun with plain single spaces, without an article in front and punctuation around it."""
    words = " ".join(text.split()).rstrip(f"{_QUOTES}.,:;!?")
    return re.sub(rf"^[{_QUOTES}]*(?:(?:a|an|the)(?: |$)[{_QUOTES}]*)*", "", words, flags=re.IGNORECASE)


def check_class_noun(class_noun: str) -> str:
    """Return the class noun as ``plain_noun`` makes it.

    >>> [check_class_noun(noun) for noun in ("The  cat", "a tortoise plushy.", '"cat"')]
    ['cat', 'tortoise plushy', 'cat']

    Raises:
        UserInputError: nothing is left, or it holds brackets, colon, comma, backslash or an asterisk.
    """
    words = plain_noun(class_noun)
    if not re.search(r"\w", words) or re.search(r"[()\[\]\\:,*]", words):
        raise UserInputError(
            f"The class noun {class_noun!r} cannot be used. Write the plain word for what your subject is, such as "
            '"cat" or "tortoise plushy", without V*, brackets or punctuation.'
        )
    return words


def placeholder_pattern(placeholders: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that matches any of the placeholders as a word of its own, in any letter case.

    The name of an embedding, "embedding:my-cat", is one too: whole, in its own letters, and where the host reads it as such.
    """
    words = sorted(map(_word_of_its_own, placeholders), key=len, reverse=True)
    return re.compile("|".join(words), re.IGNORECASE)


def _word_of_its_own(word: str) -> str:
    if word.startswith(EMBEDDING):
        return rf"(?<![^\s()])(?-i:{re.escape(word)})(?![^\s(),:<\[\]])"
    return rf"(?<!\w){re.escape(word)}(?![\w*])"


def near_misses(prompt: str, placeholder: str) -> list[str]:
    """Return what looks like the placeholder in a prompt and is not read as it.

    That is the placeholder grown together with another word, with a backslash or a space in it, or in other characters.

    >>> near_misses("a V*cat, a V \\\\* and a V\uff0a, but not a V*", "V*")
    ['V*cat', 'V \\\\*', 'V\uff0a']
    """
    plain = "".join(form if len(form := unicodedata.normalize("NFKC", c)) == 1 else c for c in prompt).translate(_STARS)
    if re.fullmatch(r"\w+", placeholder):
        looks = rf"(?<!\w){re.escape(placeholder)}\w*"
    else:
        first, rest = placeholder[0], placeholder[1:]
        parts = (re.escape(c) if re.match(r"\w", c) else rf"[\s\\]*{re.escape(c)}" for c in rest)
        looks = rf"\w*{re.escape(first)}{''.join(parts)}[\w*]*"
    read = {place for match in placeholder_pattern([placeholder]).finditer(prompt) for place in range(*match.span())}
    found = re.finditer(looks, plain, re.IGNORECASE)
    return [prompt[slice(*match.span())] for match in found if not read.intersection(range(*match.span()))]


def no_placeholder(prompt: str, placeholder: str) -> str:
    """Return the beginning of an error on a prompt that lacks the placeholder: what it is, and what was found instead."""
    found = near_misses(prompt, placeholder)
    if not found:  # an editor that reads asterisks as emphasis leaves the letters
        letters = re.escape(re.sub(r"^\W+|\W+$", "", placeholder))
        found = re.findall(rf"(?<!\w){letters}(?!\w)", prompt, re.IGNORECASE) if letters else []
    told = " and ".join(f'"{text}"' for text in dict.fromkeys(found))
    return f"does not contain {placeholder}" + (
        f" as a word of its own; it holds {told}, which is read otherwise" if told else ""
    )


def check_caption(caption: str, placeholder: str, class_noun: str) -> None:
    """Refuse a caption of a reference image that names the subject, whose place the trainer gives it.

    Raises:
        UserInputError: it holds the placeholder.
    """
    if placeholder_pattern([placeholder]).search(caption):
        merged = merge_concept_phrase(caption, placeholder, class_noun)
        around = _filled_in(placeholder).split(merged)[-1].strip(" ,.")
        raise UserInputError(
            f"The caption {caption!r} names the subject. The trainer writes {placeholder} {class_noun} into each prompt and adds "
            f'the caption behind it, so write only what is around the subject, such as "{around or "on a wooden table"}".'
        )


def merge_concept_phrase(prompt: str, placeholder: str, class_noun: str, others: Sequence[str] = ()) -> str:
    """Return the prompt with "V*" where the noun of each V* stood; a noun in plural leaves ``PLURAL`` behind it.

    Words between the two stay, and so does the emphasis around any of the words.

    >>> merge_concept_phrase("a (V* cat:1.2), sleeping", "V*", "cat")
    'a (V*:1.2), sleeping'
    >>> merge_concept_phrase("a (V* red cat:1.2), V*", "V*", "cat")
    'a (red V*:1.2), V*'
    >>> merge_concept_phrase("two V* cats", "V*", "cat").replace(PLURAL, "<plural>")
    'two V*<plural>'

    Args:
        prompt: any text.
        placeholder: usually "V*"; it counts as a word of its own only, in any letter case.
        class_noun: the concept's noun, one or more words.
        others: placeholders of other concepts.
    """
    text = prompt
    for phrase in reversed(_phrases(prompt, placeholder, class_noun, others)):
        mark = _place_of(prompt[slice(*phrase.star)]) + PLURAL * phrase.is_plural
        before, end = replaced(text, phrase, mark)
        text = before + text[end:]
    return without_empty_brackets(text)


def add_class_noun(prompt: str, placeholder: str, class_noun: str, others: Sequence[str] = ()) -> str:
    """Return the prompt with the class noun behind every "V*" that lacks it, inside the emphasis around "V*".

    A concept is trained as "V* <noun>", and "V*" alone is not the subject. What counts as its noun, see ``phrase.phrases``.
    A second time changes nothing.

    >>> add_class_noun("a V* in snow, (v*:1.2)", "V*", "cat")
    'a V* cat in snow, (v* cat:1.2)'
    >>> add_class_noun("V*'s hat, V* on a cat, V*, cat", "V*", "cat")
    "V* cat's hat, V* cat on a cat, V* cat, cat"
    >>> add_class_noun("a V* cat, (V*:1.2) cat, two V* big Cats, V* (fluffy little cat)", "V*", "cat")
    'a V* cat, (V*:1.2) cat, two V* big Cats, V* (fluffy little cat)'

    Args:
        prompt: any text.
        placeholder: usually "V*"; it counts as a word of its own only, in any letter case.
        class_noun: the concept's noun, one or more words.
        others: placeholders of other concepts.
    """
    text = prompt
    for phrase in reversed(_phrases(prompt, placeholder, class_noun, others)):
        if not phrase.noun:
            text = f"{text[: phrase.star[1]]} {class_noun}{text[phrase.star[1] :]}"
    return text


def concept_words(prompt: str, placeholder: str, class_noun: str, others: Sequence[str] = ()) -> list[Span]:
    """Return where each V* and the words of its noun stand, as (start, end); their tokens are T(P)."""
    return [word for phrase in _phrases(prompt, placeholder, class_noun, others) for word in phrase.words]


def class_nouns_in(text: str, class_noun: str) -> list[str]:
    """Return where a text says the class noun, as it is written there, in singular or plural; each once."""
    pattern = re.compile(rf"{FILE}|(?<!\w)(?P<noun>{noun_pattern(class_noun)})(?!\w)", re.IGNORECASE)
    return list(dict.fromkeys(match["noun"] for match in pattern.finditer(text) if match["noun"]))


def replace_placeholder(prompt: str, placeholder: str, replacement: str, put: Callable[[str], str] = str) -> str:
    """Return the prompt with every placeholder replaced, in plural where ``PLURAL`` follows; nothing in its place also tidies.

    Args:
        prompt: any text.
        placeholder: usually "V*".
        replacement: a noun, or "".
        put: makes of the noun, in singular or plural, what goes into the text: itself, or with marks or spaces around it.
    """

    def word_for(match: re.Match[str]) -> str:
        word = plural_of(replacement) if replacement and match.group().endswith(PLURAL) else replacement
        return put(word)

    text = _filled_in(placeholder).sub(word_for, prompt)
    if replacement:
        return text
    text = re.sub(r"\(\s+", "(", without_empty_brackets(text))
    return re.sub(r"\s+([,.;!?)])", r"\1", " ".join(text.split())).strip(" ,")


def _phrases(prompt: str, placeholder: str, class_noun: str, others: Sequence[str]) -> list[Phrase]:
    names = (placeholder, *others)
    ends = [*names, *(name + PLURAL for name in names)]
    return phrases(prompt, placeholder_pattern([placeholder]).pattern, class_noun, ends)


def _filled_in(placeholder: str) -> re.Pattern[str]:
    """Return a pattern of the places where a noun goes."""
    place = _place_of(placeholder)
    return placeholder_pattern([place, place + PLURAL])


def _place_of(placeholder: str) -> str:
    """Return what holds a placeholder's place: itself, or for a file its name between private characters, which any mark ends."""
    return f"\ue003{placeholder.removeprefix(EMBEDDING)}\ue003" if placeholder.startswith(EMBEDDING) else placeholder


def without_empty_brackets(prompt: str) -> str:
    """Drop emphasis around nothing, such as "(:1.2)", also nested."""
    shorter = re.sub(rf"\s*\(\s*{WEIGHT}\s*\)", "", prompt)
    return shorter if shorter == prompt else without_empty_brackets(shorter)
