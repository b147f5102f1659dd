"""A class noun is added behind V* where it lacks one, and nowhere else."""

from __future__ import annotations

import pytest
from comfyui_dci.dci_core.prompt.words import (
    add_class_noun,
)

A, CAT, PHOTO, OF, DOG, PLUSHY, TORTOISE = 320, 2368, 1125, 539, 1929, 40887, 26038


@pytest.mark.parametrize(
    "prompt, read",
    [
        ("a V* in times square", "a V* cat in times square"),
        ("V*", "V* cat"),
        ("a v* asleep", "a v* cat asleep"),
        ("V*, asleep.", "V* cat, asleep."),
        ("a V* and a dog", "a V* cat and a dog"),
        ("V*'s hat", "V* cat's hat"),
        ("V*'s cat", "V* cat's cat"),
        ("a V*-shaped cake", "a V* cat-shaped cake"),
        ("V*, V* cat, V*", "V* cat, V* cat, V* cat"),
        ("V* V*", "V* cat V* cat"),
        ("a V*\nin snow", "a V* cat\nin snow"),
    ],
)
def test_v_star_alone_gets_its_noun(prompt: str, read: str) -> None:
    assert add_class_noun(prompt, "V*", "cat") == read


@pytest.mark.parametrize(
    "prompt, read",
    [
        ("a (V*:1.2) in snow", "a (V* cat:1.2) in snow"),
        ("a ((V*)) in snow", "a ((V* cat)) in snow"),
        ("(a V* in snow:1.2), a cat", "(a V* cat in snow:1.2), a cat"),
        ("[V*] in snow", "[V* cat] in snow"),
        ("a (V*:1.2) (in snow)", "a (V* cat:1.2) (in snow)"),
        (r"\(V*\) in snow", r"\(V* cat\) in snow"),
        ("(V*:1.2), cat", "(V* cat:1.2), cat"),
    ],
)
def test_the_noun_goes_inside_the_emphasis(prompt: str, read: str) -> None:
    assert add_class_noun(prompt, "V*", "cat") == read


@pytest.mark.parametrize(
    "prompt",
    [
        "a V* wearing cat ears",
        "V* eating cat food",
        "V* chasing big black cat",
        "V* can see cat",
        "V* then cat",
        "V* not cat",
        "a V* sitting cat",
        "embedding:foo,V* on grass",
    ],
)
def test_a_noun_behind_a_verb_or_a_file_does_not_count(prompt: str) -> None:
    assert add_class_noun(prompt, "V*", "cat") == prompt.replace("V*", "V* cat")


@pytest.mark.parametrize(
    "prompt",
    [
        "a V* cat in snow",
        "a V* Cat",
        "two V* cats",
        "a V*  \n cat",
        "V* cat's bed",
        "V* cat-like",
        "a (V*:1.2) cat",
        "a (V*) cat",
        "a V* (cat:1.2)",
        "a (V* cat:1.2)",
        "a (V*:1.3) (cat:1.2)",
        "a V* red cat",
        "a V* fluffy little cat in snow",
        "a (V*:0.9) very fluffy (little cat:1.2)",
        "a V* red-brown cat",
        "no placeholder",
        "a cat",
        "V*cat, MV*, V**",
        "embedding:V*, (embedding:my-V*:1.2) on grass",
        "",
    ],
)
def test_v_star_with_its_noun_is_left_as_it_is(prompt: str) -> None:
    assert add_class_noun(prompt, "V*", "cat") == prompt


@pytest.mark.parametrize(
    "rest",
    [
        "on a cat",
        "beside a cat",
        "and cat",
        "or cat",
        ", cat",
        ". Cat",
        "the cat",
        "with cat ears",
        "is a cat",
        "in cat costume",
        "his cat",
        "red, cat",
        "wearing a cat costume",
        "catfish",
        "(catfish:1.2)",
        "one two three four cat",
        "chasing cats",
        "W* cat",
        "red W* cat",
        "V* cat",
        "AND A CAT",
        "- cat",
        ": cat",
        "| cat",
    ],
)
def test_a_noun_that_belongs_to_something_else_does_not_count(rest: str) -> None:
    assert add_class_noun(f"a V* {rest}", "V*", "cat", ["W*"]) == f"a V* cat {rest}"


@pytest.mark.parametrize(
    "prompt, read",
    [
        ("a V* on a house", "a V* tortoise plushy on a house"),
        ("a (V*:0.8) tortoise plushy", "a (V*:0.8) tortoise plushy"),
        ("a V* tortoise (plushy:1.2)", "a V* tortoise (plushy:1.2)"),
        ("a V* blue Tortoise Plushy", "a V* blue Tortoise Plushy"),
        ("V* tortoise plushies", "V* tortoise plushies"),
        ("V* tortoise plushys", "V* tortoise plushys"),
        ("a V* tortoise", "a V* tortoise plushy tortoise"),
        ("a V* tortoise, plushy", "a V* tortoise plushy tortoise, plushy"),
    ],
)
def test_a_noun_of_several_words_counts_as_a_whole(prompt: str, read: str) -> None:
    assert add_class_noun(prompt, "V*", "tortoise plushy") == read


@pytest.mark.parametrize("noun", ["C++", "no.", "a-", "café", "X|Y", "[^"])
def test_a_noun_is_never_read_as_a_regular_expression(noun: str) -> None:
    read = add_class_noun("V*, a red V* on grass", "V*", noun)
    assert read == f"V* {noun}, a red V* {noun} on grass" == add_class_noun(read, "V*", noun)


def test_two_concepts_get_each_their_own_noun() -> None:
    prompt = "V* beside a (<mug>:1.2), <mug> V* sks"
    for placeholder, noun in (("V*", "cat"), ("<mug>", "coffee mug"), ("sks", "dog")):
        prompt = add_class_noun(prompt, placeholder, noun, ["V*", "<mug>", "sks"])
    assert prompt == "V* cat beside a (<mug> coffee mug:1.2), <mug> coffee mug V* cat sks dog"
    assert add_class_noun("V* sks cat", "V*", "cat", ["sks"]) == "V* cat sks cat"
    assert add_class_noun("sks sks cat", "sks", "cat") == "sks cat sks cat"


@pytest.mark.parametrize(
    "prompt",
    [
        "V*",
        "V*'s hat, (V*:1.2) on V*",
        "V*-like V* V*. V*, cat",
        "((V*:1.1) red:1.2) V* on cat",
        "V* one two three four cat",
    ],
)
def test_a_noun_is_added_once(prompt: str) -> None:
    read = add_class_noun(prompt, "V*", "cat")
    assert read != prompt and add_class_noun(read, "V*", "cat") == read
