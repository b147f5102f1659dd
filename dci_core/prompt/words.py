"""Prompt texts and token positions: where V* stands, and the auxiliary prompt P_a made from P.

Positions are found in the token stream a prompt really became, never counted from its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UserInputError
from ..sampling.dbim import TokenSet
from .auxiliary_noun import COMMON_NOUNS, first_unrelated_noun

AUTO = "auto"

_WEIGHT = r"(?::\s*[-+.\d]+)?"
_CLOSED = rf"(?:\s*{_WEIGHT}\))*"  # emphasis that ends behind a word
_OPENED = r"(?:\(\s*)*"  # emphasis that begins before the next one

_PHRASE_ENDS = (
    "a", "an", "the", "this", "that", "these", "those", "some", "any", "each", "every", "no", "another",
    "my", "your", "his", "her", "its", "our", "their",
    "about", "above", "across", "after", "against", "along", "among", "around", "as", "at", "before", "behind", "below",
    "beneath", "beside", "besides", "between", "beyond", "by", "during", "for", "from", "in", "inside", "into", "like",
    "near", "of", "off", "on", "onto", "opposite", "outside", "over", "past", "than", "through", "to", "toward", "towards",
    "under", "underneath", "until", "up", "upon", "via", "with", "within", "without",
    "and", "or", "but", "nor", "so", "yet", "while", "when", "where", "because", "if", "though", "although",
    "not", "then", "can", "will", "would", "should", "could", "may", "might", "do", "does", "did", "versus", "vs",
    "who", "which", "whose", "is", "are", "was", "were", "be", "being", "has", "have", "had",
)  # fmt: skip
"""Words that begin something new: determiners, prepositions, conjunctions, auxiliary verbs. So does any word in "-ing"."""

Token = tuple[int, Any]
"""A prompt token: its position in the conditioning, and its vocabulary id or vector."""


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


@dataclass(frozen=True)
class PromptPair:
    """The two branches' prompts.

    Args:
        concept: P, with V* in it.
        auxiliary: P_a as one would type it.
        auxiliary_template: P_a with the placeholder standing where the auxiliary noun goes, so that the
            noun's tokens can be told from the same word elsewhere in the prompt.
    """

    concept: str
    auxiliary: str
    auxiliary_template: str


def pair_prompts(
    prompt: str, placeholder: str, class_noun: str, auxiliary_noun: str, entire_prompt: bool = True
) -> PromptPair:
    """Make P_a from P by replacing "V* <noun>" (or "V*" alone) with the auxiliary noun, nothing else.

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
            f"The prompt {prompt!r} does not contain {placeholder}. Write {placeholder} where your subject belongs, "
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
    template = prompt
    for placeholder, class_noun in words:
        template = merge_concept_phrase(template, placeholder, class_noun)
    auxiliary = template
    for (placeholder, _), noun in zip(words, auxiliary_nouns, strict=True):
        for other in words:
            noun = check_auxiliary_noun(noun, *other)
        auxiliary = replace_placeholder(auxiliary, placeholder, noun)
    return PromptPair(prompt, auxiliary, template)


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
        nouns.append(noun)
    return nouns


def check_auxiliary_noun(auxiliary_noun: str, placeholder: str, class_noun: str) -> str:
    """Return the auxiliary noun with plain single spaces.

    Raises:
        UserInputError: it is empty, equals the class noun, holds the placeholder or prompt syntax.
    """
    noun = " ".join(auxiliary_noun.split())
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


def prompt_tokens(chunks: Sequence[Sequence[tuple[Any, float, int]]]) -> list[Token]:
    """List a tokenized prompt's real tokens with their positions in the conditioning.

    Args:
        chunks: rows of (token, weight, word id) as the encoder gets them; word id 0 marks start, end and
            padding, and every row contributes its full length to the conditioning.
    """
    tokens: list[Token] = []
    offset = 0
    for chunk in chunks:
        tokens += [(offset + column, token) for column, (token, _, word) in enumerate(chunk) if word != 0]
        offset += len(chunk)
    return tokens


def concept_token_set(tokens: Sequence[Token], is_concept: Callable[[Any], bool], noun_ids: Sequence[int]) -> TokenSet:
    """Find T(P): every concept vector, and the class noun where it follows one directly.

    Args:
        tokens: the concept prompt's tokens in order.
        is_concept: tells whether a token is one of the concept's vectors.
        noun_ids: the class noun's vocabulary ids.
    """
    selected: list[int] = []
    for index, (position, token) in enumerate(tokens):
        if not is_concept(token):
            continue
        selected.append(position)
        following = tokens[index + 1 : index + 1 + len(noun_ids)]
        if len(following) == len(noun_ids) and all(_is_id(t, i) for (_, t), i in zip(following, noun_ids)):
            selected += [place for place, _ in following]
    return TokenSet(tuple(position for position, _ in tokens), tuple(selected))


def united(sets: Sequence[TokenSet]) -> TokenSet:
    """Return the union of token sets of one prompt: T(P) of a prompt that names several concepts."""
    return TokenSet(sets[0].prompt, tuple(sorted({position for one in sets for position in one.selected})))


def auxiliary_token_set(tokens: Sequence[Token], is_auxiliary_noun: Callable[[Any], bool]) -> TokenSet:
    """Find T(P_a): all tokens of the auxiliary prompt but the inserted auxiliary noun's."""
    prompt = tuple(position for position, _ in tokens)
    return TokenSet(prompt, tuple(position for position, token in tokens if not is_auxiliary_noun(token)))


def _is_id(token: Any, vocabulary_id: int) -> bool:
    return isinstance(token, int) and token == vocabulary_id
