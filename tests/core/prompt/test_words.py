"""V* and its noun in prompts: found, merged, replaced, and refused where they cannot stand."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prompt import words as prompts
from comfyui_dci.dci_core.prompt.words import (
    check_caption,
    check_class_noun,
    check_placeholder,
    merge_concept_phrase,
    placeholder_pattern,
    replace_placeholder,
)

A, CAT, PHOTO, OF, DOG, PLUSHY, TORTOISE = 320, 2368, 1125, 539, 1929, 40887, 26038


def refusal_of(call: Callable[..., Any], *given: Any, **options: Any) -> str:
    with pytest.raises(UserInputError) as refusal:
        call(*given, **options)
    return str(refusal.value)


@pytest.mark.parametrize(
    "prompt, merged",
    [
        ("a V* cat in times square", "a V* in times square"),
        ("V* cat", "V*"),
        ("a V*", "a V*"),
        ("a V* sitting cat", "a V* sitting cat"),
        ("a cat beside a V* cat", "a cat beside a V*"),
        ("a V*  \n cat", "a V*"),
        ("a (V* cat:1.2), sleeping", "a (V*:1.2), sleeping"),
        ("a (V* cat), sleeping", "a (V*), sleeping"),
        ("a (V*:1.3) cat", "a (V*:1.3)"),
        ("a (V*) cat", "a (V*)"),
        ("a ((V*)) cat", "a ((V*))"),
        ("a (V*: 1.3) cat", "a (V*: 1.3)"),
        ("a V* (cat:1.2)", "a (V*:1.2)"),
        ("a V* (cat)", "a (V*)"),
        ("a V* ((cat:1.2):1.1)", "a ((V*:1.2):1.1)"),
        ("a V* (cat sitting:1.2)", "a (V* sitting:1.2)"),
        ("(a V* cat:1.2) on a mat", "(a V*:1.2) on a mat"),
        ("a V* cat and a V* cat", "a V* and a V*"),
        ("a V* cat and a V* and a (V*:1.2) cat", "a V* and a V* and a (V*:1.2)"),
        ("V*, V* cat.", "V*, V*."),
        ("V*, cat", "V*, cat"),
        ("V* cat's bed", "V*'s bed"),
        ("V* cat-like", "V*-like"),
        ("a v* Cat", "a v*"),
        ("A V* CAT", "A V*"),
        ("two V* cats", "two V*\u02e2"),
        ("a V* catfish", "a V* catfish"),
        ("a (V* catfish:1.2)", "a (V* catfish:1.2)"),
        ("a (V*:1.2) catfish", "a (V*:1.2) catfish"),
        ("a V* (catfish:1.2)", "a V* (catfish:1.2)"),
        ("a XV* cat", "a XV* cat"),
        ("a V*cat", "a V*cat"),
    ],
)
def test_only_v_star_followed_by_the_noun_is_merged(prompt: str, merged: str) -> None:
    assert merge_concept_phrase(prompt, "V*", "cat") == merged


@pytest.mark.parametrize(
    "prompt, merged",
    [
        ("a V* tortoise plushy on a house", "a V* on a house"),
        ("a V*  tortoise\tplushy", "a V*"),
        ("a (V* tortoise plushy:1.2)", "a (V*:1.2)"),
        ("a (V*:0.8) tortoise plushy", "a (V*:0.8)"),
        ("a V* (tortoise plushy:1.2)", "a (V*:1.2)"),
        ("a V* tortoise (plushy:1.2)", "a (V*:1.2)"),
        ("a V* (tortoise:0.8) plushy", "a (V*:0.8)"),
        ("a (V* tortoise:1.2) plushy, asleep", "a (V*:1.2), asleep"),
        ("a V* (tortoise:0.8) (plushy:1.2) asleep", "a (V*:0.8) asleep"),
        ("a V* ((tortoise:0.8) plushy:1.2)", "a ((V*:0.8):1.2)"),
        ("a V* tortoise (plushytoy:1.2)", "a V* tortoise (plushytoy:1.2)"),
        ("a V* tortoise", "a V* tortoise"),
        ("a V* plushy", "a V* plushy"),
        ("a V* tortoise plushytoy", "a V* tortoise plushytoy"),
    ],
)
def test_a_noun_of_several_words_is_merged_as_a_whole(prompt: str, merged: str) -> None:
    assert merge_concept_phrase(prompt, "V*", "tortoise plushy") == merged


@pytest.mark.parametrize(
    "prompt, merged",
    [
        ("a <my-cat> cat, <my-cat>", "a <my-cat>, <my-cat>"),
        ("a (<My-Cat> cat:1.2)", "a (<My-Cat>:1.2)"),
        ("a <my-cat> (cat)", "a (<my-cat>)"),
        ("a my-cat cat", "a my-cat cat"),
    ],
)
def test_another_placeholder_is_merged_likewise(prompt: str, merged: str) -> None:
    assert merge_concept_phrase(prompt, "<my-cat>", "cat") == merged


@pytest.mark.parametrize("prompt", ["a (V*:1.3) (cat:1.2)", "a (V*) (cat)", "a ((V*:1.1):1.2) cat"])
def test_emphasis_of_any_depth_does_not_hide_the_noun(prompt: str) -> None:
    """Otherwise the class noun, which fine-tuning has tied to the subject, stays in the auxiliary prompt."""
    merged = merge_concept_phrase(prompt, "V*", "cat")
    assert "cat" not in merged
    assert merged.count("V*") == 1
    assert merged.count("(") == merged.count(")")


def test_the_examples_of_the_docstrings_are_true() -> None:
    assert doctest.testmod(prompts).failed == 0 < doctest.testmod(prompts).attempted


@pytest.mark.parametrize(
    "text, found",
    [
        ("V*", ["V*"]),
        ("V*, V* cat.", ["V*", "V*"]),
        ("(V*:1.2)", ["V*"]),
        ("v* and V*'s", ["v*", "V*"]),
        ("V*cat", []),
        ("V**", []),
        ("MV*", []),
        ("V *", []),
        ("V", []),
    ],
)
def test_the_placeholder_counts_only_as_a_word_of_its_own(text: str, found: list[str]) -> None:
    assert placeholder_pattern(["V*"]).findall(text) == found


def test_the_longest_of_several_placeholders_wins() -> None:
    pattern = placeholder_pattern(["sks", "sks-dog", "<my-cat>"])
    assert pattern.findall("a sks-dog, a sks, a <my-cat>.") == ["sks-dog", "sks", "<my-cat>"]


def test_a_placeholder_is_never_read_as_a_regular_expression() -> None:
    assert placeholder_pattern(["a.c"]).findall("abc a.c") == ["a.c"]


@pytest.mark.parametrize(
    "prompt, replaced",
    [
        ("a V* in snow", "a dog in snow"),
        ("V*, v*.", "dog, dog."),
        ("a (V*:1.2)", "a (dog:1.2)"),
        ("a V*cat", "a V*cat"),
        ("no placeholder", "no placeholder"),
    ],
)
def test_every_placeholder_is_replaced_and_nothing_else(prompt: str, replaced: str) -> None:
    assert replace_placeholder(prompt, "V*", "dog") == replaced


def test_the_replacement_is_taken_literally() -> None:
    assert replace_placeholder("a V*", "V*", r"\1 \g<0>") == r"a \1 \g<0>"


@pytest.mark.parametrize(
    "prompt, left",
    [
        ("a V* in snow", "a in snow"),
        ("V* in snow", "in snow"),
        ("V*, in snow", "in snow"),
        ("in snow, V*", "in snow"),
        ("in snow V*.", "in snow."),
        ("a (V*:1.2) in snow", "a in snow"),
        ("a ((V*)) in snow", "a in snow"),
        ("V*", ""),
        ("(V*:1.2)", ""),
        ("(V* in snow:1.2)", "(in snow:1.2)"),
    ],
)
def test_an_empty_replacement_leaves_no_hole(prompt: str, left: str) -> None:
    assert replace_placeholder(prompt, "V*", "") == left


@pytest.mark.parametrize("prompt", ["((V*:1.2) in snow:1.1)", "(in snow (V*:1.2))", "(in snow, ((V*)):1.3)"])
def test_an_empty_replacement_takes_brackets_away_only_in_pairs(prompt: str) -> None:
    left = replace_placeholder(prompt, "V*", "")
    assert left.count("(") == left.count(")") == 1
    assert "in snow" in left


@pytest.mark.parametrize("placeholder", ["V*", "<my-cat>", "sks", "S*", "x" * 32, "Żółw*"])
def test_words_of_their_own_can_be_placeholders(placeholder: str) -> None:
    check_placeholder(placeholder, "cat")


@pytest.mark.parametrize("placeholder", ["", " ", "my cat", "(V*)", "[V*]", "V:1", "V,", "V\\*", "V*\n", "x" * 33])
def test_a_placeholder_that_prompts_cannot_carry_is_refused(placeholder: str) -> None:
    message = refusal_of(check_placeholder, placeholder, "cat")
    assert f"The placeholder {placeholder!r} cannot be used" in message
    assert "1 to 32 characters" in message
    assert 'for example "V*"' in message


def test_a_placeholder_that_is_a_word_of_the_noun_is_refused() -> None:
    message = refusal_of(check_placeholder, "Plushy", "tortoise plushy")
    assert "'Plushy' is a word of the class noun 'tortoise plushy'. Choose another, for example \"V*\"" in message


def test_a_class_noun_gets_plain_single_spaces() -> None:
    assert check_class_noun("  tortoise \t plushy\n") == "tortoise plushy"


@pytest.mark.parametrize(
    "noun", ["a cat", "The cat", "cat.", "A  cat!", "an cat", '"cat"', "the cat, ", 'a "cat"', '"The cat".']
)
def test_a_class_noun_loses_its_article_and_the_punctuation_around_it(noun: str) -> None:
    assert check_class_noun(noun) == "cat"


@pytest.mark.parametrize("noun", ["theatre", "ant", "A4 sheet", "St. Bernard", "shepherd's dog"])
def test_a_class_noun_keeps_what_only_looks_like_an_article(noun: str) -> None:
    assert check_class_noun(noun) == noun


@pytest.mark.parametrize(
    "noun", ["", "  ", "a", "The", "an.", "...", "V* cat", "(cat)", "cat:1.2", "cat, dog", "[cat]", "cat\\"]
)
def test_a_class_noun_with_prompt_syntax_is_refused(noun: str) -> None:
    message = refusal_of(check_class_noun, noun)
    assert f"The class noun {noun!r} cannot be used" in message
    assert '"cat" or "tortoise plushy"' in message


@pytest.mark.parametrize(
    "caption, instead",
    [
        ("a photo of V* cat on a table, in the sun", "on a table, in the sun"),
        ("v*, outdoors.", "outdoors"),
        ("a photo of a V* red cat on a table", "on a table"),
        ("two V* cats on a table", "on a table"),
        ("a V* cat", "on a wooden table"),
    ],
)
def test_a_caption_with_the_subject_is_refused_with_what_to_write_instead(caption: str, instead: str) -> None:
    with pytest.raises(UserInputError) as refusal:
        check_caption(caption, "V*", "cat")
    assert repr(caption) in str(refusal.value) and f'such as "{instead}".' in str(refusal.value)


@pytest.mark.parametrize("caption", ["", "a cat on a table", "a TV*box", "V"])
def test_a_caption_without_the_subject_is_taken(caption: str) -> None:
    check_caption(caption, "V*", "cat")
