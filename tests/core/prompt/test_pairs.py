"""The auxiliary prompt made from a prompt, and the nouns it may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prompt.pairs import (
    PromptPair,
    check_auxiliary_noun,
    choose_auxiliary_nouns,
    other_noun_warnings,
    pair_prompts,
)


def refusal_of(call: Callable[..., Any], *given: Any, **options: Any) -> str:
    with pytest.raises(UserInputError) as refusal:
        call(*given, **options)
    return str(refusal.value)


@pytest.mark.parametrize(
    "prompt, auxiliary, template",
    [
        ("a V* cat in times square", "a dog in times square", "a V* in times square"),
        ("a V* in times square", "a dog in times square", "a V* in times square"),
        ("a (V* cat:1.2)", "a (dog:1.2)", "a (V*:1.2)"),
        ("V* cat and V* cat", "dog and dog", "V* and V*"),
        ("V*, V* cat.", "dog, dog.", "V*, V*."),
        ("two V* cats", "two dogs", "two V*\u02e2"),
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


@pytest.mark.parametrize(
    ("prompt", "noun", "said"),
    [
        ("a V* cat in snow, v*  CAT", "car", ["cat"]),
        ("a V* cat and a V* dog", "car", ["cat", "dog"]),
        ("a V* car, V* in snow, a cat", "car", []),
        ("a V* teddy on a sofa", "teddy bear", []),
        ("V* sleeping", "car", []),
    ],
)
def test_another_common_noun_behind_the_placeholder_is_told(prompt: str, noun: str, said: list[str]) -> None:
    warnings = other_noun_warnings(prompt, "V*", noun)
    assert len(warnings) == len(said)
    for warning, word in zip(warnings, said):
        assert f'the prompt says "V* {word}", but the concept was trained as "V* {noun}"' in warning
