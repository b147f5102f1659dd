"""The phrase that V* begins: what P_a makes of it, and what it says of nouns that stay."""

from __future__ import annotations

import pytest
from comfyui_dci.dci_core.prompt.pairs import (
    choose_auxiliary_nouns,
    pair_prompts,
    pair_prompts_of_several,
    prompt_warnings,
)
from comfyui_dci.dci_core.prompt.words import add_class_noun, class_nouns_in, concept_words


def auxiliary(prompt: str, class_noun: str = "car", noun: str = "cat") -> str:
    return pair_prompts(add_class_noun(prompt, "V*", class_noun), "V*", class_noun, noun).auxiliary


def warnings(prompt: str, class_noun: str = "car", noun: str = "cat") -> list[str]:
    pair = pair_prompts(add_class_noun(prompt, "V*", class_noun), "V*", class_noun, noun)
    return prompt_warnings(prompt, pair, [("V*", class_noun)], [noun])


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a V* red car in the snow", "a red cat in the snow"),
        ("V* red car", "red cat"),
        ("a V* Red CAR", "a Red cat"),
        ("a V* very old red car", "a very old red cat"),
        ("a V* red-brown car's wheels", "a red-brown cat's wheels"),
        ("two V* cars", "two cats"),
        ("two V* red cars, asleep", "two red cats, asleep"),
        ("a v* car and two V* Cars", "a cat and two cats"),
        ("a (V* red car:1.2)", "a (red cat:1.2)"),
        ("a (V*:1.3) red car", "a red cat"),
        ("((V*) red car:1.1)", "(red cat:1.1)"),
        ("(V*: 1.3) red car", "red cat"),
        ("a (V* red) car", "a (red) cat"),
        ("a V* (red car:1.2)", "a (red cat:1.2)"),
        ("a (V*:1.1) red (car:1.2)", "a red (cat:1.2)"),
        ("a V*(car:1.2)", "a (cat:1.2)"),
        ("two (V*:1.2) cars", "two (cats:1.2)"),
        (r"\(V* red car\)", r"\(red cat\)"),
        ("a V* on a red car", "a cat on a red car"),
        ("V* chases cars", "cat chases cars"),
        ("V* famous glass cars", "famous glass cats"),
    ],
)
def test_the_auxiliary_noun_stands_where_the_class_noun_stood(prompt: str, expected: str) -> None:
    assert auxiliary(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a V* old tortoise (plushy:1.2)", "a old (fish:1.2)"),
        ("a V* (tortoise:0.8) plushy", "a (fish:0.8)"),
        ("two V* small tortoise plushies", "two small fish"),
        ("(V* small tortoise:1.2) plushies", "(small fish:1.2)"),
    ],
)
def test_nouns_of_several_words_go_whole_and_irregular_plurals_are_known(prompt: str, expected: str) -> None:
    assert auxiliary(prompt, "tortoise plushy", "fish") == expected


@pytest.mark.parametrize(
    ("class_noun", "plural", "noun", "expected"),
    [
        ("butterfly", "butterflies", "bus", "two buses"),
        ("bench", "benches", "toy", "two toys"),
        ("wolf", "wolves", "person", "two people"),
        ("mouse", "mice", "tea box", "two tea boxes"),
        ("potato", "potatos", "fly", "two flies"),
    ],
)
def test_plurals_are_read_and_made(class_noun: str, plural: str, noun: str, expected: str) -> None:
    assert auxiliary(f"two V* {plural}", class_noun, noun) == expected


def test_the_phrases_of_two_concepts_end_at_each_other() -> None:
    pair = pair_prompts_of_several(
        "two V* red cats beside a W* big coffee mug, V* W* mugs", [("V*", "cat"), ("W*", "coffee mug")], ["dog", "ball"]
    )
    assert pair.auxiliary == "two red dogs beside a big ball, dog ball mugs"
    words = [("sks", "cat"), ("tom", "mug")]
    assert pair_prompts_of_several("tom sks cats mug", words, ["dog", "ball"]).auxiliary == "ball dogs mug"


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("V*, car in the snow", '"car" stays'),
        ("car V*", '"car" stays'),
        ("a V* car beside another car", '"car" stays'),
        ("a V* car among Cars and (cars:1.2)", '"Cars" and "cars" stays'),
        ("a V* car car", '"car" stays'),
        ("V* car-shaped car", '"car" stays'),
    ],
)
def test_a_class_noun_that_stays_is_told_with_what_to_write(prompt: str, left: str) -> None:
    (told,) = warnings(prompt)
    assert told.startswith(left) and "counts as context" in told
    assert 'behind V*, as in "V* car"; if not, write another word' in told


@pytest.mark.parametrize(
    "prompt", ["a V* red car", "two V* cars in a carpark", "a V*, carved", "V* car, embedding:car, a V*-like scar"]
)
def test_a_prompt_without_the_class_noun_elsewhere_is_not_warned_of(prompt: str) -> None:
    assert warnings(prompt) == []


def test_an_auxiliary_noun_that_says_the_class_noun_is_told() -> None:
    (told,) = warnings("a V* car in snow", noun="toy car")
    assert told == 'the auxiliary noun says "car", which training has tied to your subject: choose another, or auto'
    assert warnings("a V* car in snow", noun="cars") and not warnings("a V* car in snow", noun="carpet")


def test_what_looks_like_v_star_beside_a_good_one_is_told() -> None:
    assert warnings("a V* car and a V*s") == ['"V*s" is not read as V*: write V* as a word of its own']


def test_a_noun_elsewhere_is_found_with_emphasis_and_in_plural_as_it_is_written() -> None:
    text = "Tortoise (plushies:1.2), tortoise plushy, tortoise, tortoise plushytoy, my-tortoise plushy"
    assert class_nouns_in(text, "tortoise plushy") == ["Tortoise (plushies", "tortoise plushy"]


def test_the_words_of_a_concept_are_found_in_a_prompt() -> None:
    text = "V* tall (Tortoise:1.2) plushies, V*, tortoise plushy"
    found = concept_words(text, "V*", "tortoise plushy")
    assert [text[slice(*span)] for span in found] == ["V*", "Tortoise", "plushies", "V*"]


def test_an_auxiliary_noun_loses_article_and_full_stop() -> None:
    assert auxiliary("a V* car in snow", noun="a dog.") == "a dog in snow"
    assert choose_auxiliary_nouns('The dog, "ball"', [("V*", "cat"), ("W*", "mug")]) == ["dog", "ball"]
