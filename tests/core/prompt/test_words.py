"""Prompt texts and token positions: the auxiliary prompt, T(P) and T(P_a)."""

from __future__ import annotations

import doctest
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prompt import words as prompts
from comfyui_dci.dci_core.prompt.pairs import PromptPair, check_auxiliary_noun, choose_auxiliary_nouns, pair_prompts
from comfyui_dci.dci_core.prompt.tokens import auxiliary_token_set, concept_token_set, prompt_tokens
from comfyui_dci.dci_core.prompt.words import (
    add_class_noun,
    check_caption,
    check_class_noun,
    check_placeholder,
    merge_concept_phrase,
    placeholder_pattern,
    replace_placeholder,
)

START, END = 49406, 49407
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
        ("a V* cats", "a V* cats"),
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


@pytest.mark.parametrize(
    "prompt, auxiliary, template",
    [
        ("a V* cat in times square", "a dog in times square", "a V* in times square"),
        ("a V* in times square", "a dog in times square", "a V* in times square"),
        ("a (V* cat:1.2)", "a (dog:1.2)", "a (V*:1.2)"),
        ("V* cat and V* cat", "dog and dog", "V* and V*"),
        ("V*, V* cat.", "dog, dog.", "V*, V*."),
        ("a V* cats", "a dog cats", "a V* cats"),
        ("a V* cat chasing a dog", "a dog chasing a dog", "a V* chasing a dog"),
    ],
)
def test_the_auxiliary_prompt_differs_only_in_the_subject(prompt: str, auxiliary: str, template: str) -> None:
    assert pair_prompts(prompt, "V*", "cat", "dog") == PromptPair(prompt, auxiliary, template)


def test_another_placeholder_and_nouns_of_several_words_make_a_pair() -> None:
    pair = pair_prompts("a <my-cat> tortoise plushy, oil", "<my-cat>", "tortoise plushy", "  rubber   duck ")
    assert pair == PromptPair("a <my-cat> tortoise plushy, oil", "a rubber duck, oil", "a <my-cat>, oil")


def test_without_the_entire_prompt_the_branches_share_it_between_them() -> None:
    pair = pair_prompts("a V* cat in times square", "V*", "cat", "", entire_prompt=False)
    assert pair == PromptPair("V* cat", "a in times square", "a in times square")


def test_a_prompt_without_the_placeholder_is_refused_with_an_example() -> None:
    message = refusal_of(pair_prompts, "a V*cat in snow", "V*", "cat", "dog")
    assert "'a V*cat in snow' does not contain V*" in message
    assert 'for example "a V* cat in times square"' in message


def test_a_prompt_of_nothing_but_the_concept_is_refused_without_the_entire_prompt() -> None:
    message = refusal_of(pair_prompts, "(V* cat:1.2)", "V*", "cat", "dog", entire_prompt=False)
    assert "Nothing is left of the prompt '(V* cat:1.2)'" in message
    assert "Describe a scene as well, or turn entire_prompt on." in message


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


@pytest.mark.parametrize("noun", ["", "  ", "V* cat", "(cat)", "cat:1.2", "cat, dog", "[cat]", "cat\\"])
def test_a_class_noun_with_prompt_syntax_is_refused(noun: str) -> None:
    message = refusal_of(check_class_noun, noun)
    assert f"The class noun {noun!r} cannot be used" in message
    assert '"cat" or "tortoise plushy"' in message


@pytest.mark.parametrize("noun, plain", [("dog", "dog"), (" rubber  duck ", "rubber duck"), ("catfish", "catfish")])
def test_a_usable_auxiliary_noun_is_returned_with_plain_spaces(noun: str, plain: str) -> None:
    assert check_auxiliary_noun(noun, "V*", "cat") == plain


@pytest.mark.parametrize(
    "noun, reason",
    [
        ("  ", "The auxiliary noun is empty."),
        ("Cat", "'Cat' is the concept's own class noun"),
        (" cat ", "'cat' is the concept's own class noun"),
        ("V*", "'V*' must be plain words"),
        ("v* dog", "'v* dog' must be plain words without brackets, commas or V*"),
        ("(dog:1.2)", "'(dog:1.2)' must be plain words"),
        ("dog, bird", "'dog, bird' must be plain words"),
    ],
)
def test_an_unusable_auxiliary_noun_is_refused_with_another_to_take(noun: str, reason: str) -> None:
    message = refusal_of(check_auxiliary_noun, noun, "V*", "cat")
    assert reason in message
    assert 'Choose another common noun, for example "dog", or "auto".' in message


def test_the_auxiliary_noun_is_checked_when_prompts_are_paired() -> None:
    assert "class noun" in refusal_of(pair_prompts, "a V* cat", "V*", "cat", "cat")


def test_auto_asks_for_each_concept_with_what_is_taken() -> None:
    asked: list[tuple[int, str]] = []

    def choose(number: int, taken: str) -> str:
        asked.append((number, taken))
        return "boat"

    words = [("V*", "cat"), ("W*", "mug")]
    assert choose_auxiliary_nouns("auto, dog", words, choose) == ["boat", "dog"]
    assert choose_auxiliary_nouns("auto", words, choose) == ["boat", "boat"]
    assert [number for number, _ in asked] == [0, 0, 1]
    assert {"cat", "mug", "dog"} <= set(asked[0][1].split()) and "boat" in asked[2][1].split()
    assert choose_auxiliary_nouns("auto", words) == ["dog", "horse"]


def concept_vectors(count: int) -> list[Any]:
    return list(torch.randn(count, 4))


def chunk(tokens: Sequence[Any]) -> list[tuple[Any, float, int]]:
    """One row of 77 as the host tokenizes it: start, real tokens, end, padding; word id 0 is not a word."""
    assert len(tokens) <= 75
    words = [(token, 1.0, number) for number, token in enumerate(tokens, start=1)]
    return [(START, 1.0, 0), *words, *[(END, 1.0, 0)] * (76 - len(tokens))]


def is_vector(token: Any) -> bool:
    return isinstance(token, torch.Tensor)


class MarkedNoun(int):
    """A vocabulary id that was put where the placeholder stood."""


def is_marked(token: Any) -> bool:
    return isinstance(token, MarkedNoun)


def test_real_tokens_are_listed_with_their_positions_in_the_conditioning() -> None:
    chunks = [chunk([A, CAT] * 37 + [A]), chunk([OF, DOG])]
    tokens = prompt_tokens(chunks)
    assert [position for position, _ in tokens] == [*range(1, 76), 78, 79]
    assert [token for _, token in tokens] == [A, CAT] * 37 + [A, OF, DOG]


def test_a_prompt_of_nothing_has_no_tokens() -> None:
    assert prompt_tokens([chunk([])]) == []
    with pytest.raises(UserInputError, match="Write at least one word"):
        concept_token_set([], is_vector, [CAT])


def test_the_concept_and_its_noun_are_selected_and_all_words_listed() -> None:
    tokens = prompt_tokens([chunk([A, *concept_vectors(3), CAT, OF, PHOTO])])
    found = concept_token_set(tokens, is_vector, [CAT])
    assert found.prompt == (1, 2, 3, 4, 5, 6, 7)
    assert found.selected == (2, 3, 4, 5)


def test_a_noun_of_several_tokens_is_selected_whole_or_not_at_all() -> None:
    noun = [TORTOISE, PLUSHY]
    whole = prompt_tokens([chunk([*concept_vectors(2), TORTOISE, PLUSHY, OF])])
    half = prompt_tokens([chunk([*concept_vectors(2), TORTOISE, OF, PLUSHY])])
    cut = prompt_tokens([chunk([*concept_vectors(2), TORTOISE])])
    assert concept_token_set(whole, is_vector, noun).selected == (1, 2, 3, 4)
    assert concept_token_set(half, is_vector, noun).selected == (1, 2)
    assert concept_token_set(cut, is_vector, noun).selected == (1, 2)


def test_the_concept_alone_is_selected_without_a_noun() -> None:
    tokens = prompt_tokens([chunk([A, *concept_vectors(2), OF])])
    assert concept_token_set(tokens, is_vector, [CAT]).selected == (2, 3)


def test_the_noun_elsewhere_in_the_prompt_is_not_selected() -> None:
    tokens = prompt_tokens([chunk([CAT, A, *concept_vectors(2), OF, CAT])])
    assert concept_token_set(tokens, is_vector, [CAT]).selected == (3, 4)


def test_every_occurrence_of_the_concept_is_selected() -> None:
    vectors = concept_vectors(2)
    tokens = prompt_tokens([chunk([*vectors, CAT, OF, *vectors, OF, *vectors, CAT])])
    assert concept_token_set(tokens, is_vector, [CAT]).selected == (1, 2, 3, 5, 6, 8, 9, 10)


def test_the_concept_is_found_in_the_second_chunk() -> None:
    tokens = prompt_tokens([chunk([A] * 75), chunk([OF, *concept_vectors(1), CAT])])
    found = concept_token_set(tokens, is_vector, [CAT])
    assert found.selected == (79, 80)
    assert found.prompt == (*range(1, 76), 78, 79, 80)


def test_a_noun_that_starts_the_next_chunk_still_belongs_to_the_concept() -> None:
    tokens = prompt_tokens([chunk([A] * 73 + concept_vectors(2)), chunk([CAT, OF])])
    assert concept_token_set(tokens, is_vector, [CAT]).selected == (74, 75, 78)


def test_concept_and_noun_may_both_be_cut_by_the_end_of_a_chunk() -> None:
    vectors = concept_vectors(2)
    cut_vectors = prompt_tokens([chunk([A] * 74 + vectors[:1]), chunk([vectors[1], TORTOISE, PLUSHY])])
    cut_noun = prompt_tokens([chunk([A] * 72 + vectors + [TORTOISE]), chunk([PLUSHY])])
    noun = [TORTOISE, PLUSHY]
    assert concept_token_set(cut_vectors, is_vector, noun).selected == (75, 78, 79, 80)
    assert concept_token_set(cut_noun, is_vector, noun).selected == (73, 74, 75, 78)


def test_another_concepts_vectors_are_words_of_the_prompt_only() -> None:
    own, other = concept_vectors(2), concept_vectors(2)
    tokens = prompt_tokens([chunk([*own, CAT, *other, CAT])])
    found = concept_token_set(tokens, lambda token: any(token is vector for vector in own), [CAT])
    assert found.selected == (1, 2, 3)
    assert found.prompt == (1, 2, 3, 4, 5, 6)


def test_all_of_the_auxiliary_prompt_but_the_inserted_noun_is_selected() -> None:
    tokens = prompt_tokens([chunk([A, MarkedNoun(DOG), OF, PHOTO])])
    found = auxiliary_token_set(tokens, is_marked)
    assert found.prompt == (1, 2, 3, 4)
    assert found.selected == (1, 3, 4)


def test_the_auxiliary_noun_elsewhere_in_the_prompt_stays_selected() -> None:
    tokens = prompt_tokens([chunk([A, MarkedNoun(DOG), OF, A, DOG, MarkedNoun(DOG)])])
    assert auxiliary_token_set(tokens, is_marked).selected == (1, 3, 4, 5)


def test_an_auxiliary_prompt_of_the_noun_alone_selects_nothing() -> None:
    found = auxiliary_token_set(prompt_tokens([chunk([MarkedNoun(DOG), MarkedNoun(CAT)])]), is_marked)
    assert (found.prompt, found.selected) == ((1, 2), ())


def test_the_rest_of_a_prompt_without_noun_is_selected_whole() -> None:
    found = auxiliary_token_set(prompt_tokens([chunk([A] * 75), chunk([OF])]), is_marked)
    assert found.selected == found.prompt == (*range(1, 76), 78)


@pytest.mark.parametrize(
    "caption, instead",
    [
        ("a photo of V* cat on a table, in the sun", "on a table, in the sun"),
        ("v*, outdoors.", "outdoors"),
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
