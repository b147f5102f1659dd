"""What a placeholder may be, and what is told where a prompt only seems to hold it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prompt import plurals
from comfyui_dci.dci_core.prompt.pairs import pair_prompts
from comfyui_dci.dci_core.prompt.words import check_placeholder, near_misses, placeholder_warning


def refusal_of(call: Callable[..., Any], *given: Any) -> str:
    with pytest.raises(UserInputError) as refusal:
        call(*given)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a V*cat in snow", '"V*cat"'),
        (r"a V\* cat", r'"V\*"'),
        ("a V\uff0a cat", '"V\uff0a"'),
        ("a \uff36* cat", '"\uff36*"'),
        ("a V\u2217 cat", '"V\u2217"'),
        ("a V * cat", '"V *"'),
        ("two V*s", '"V*s"'),
        ("a TV*box and v**", '"TV*box" and "v**"'),
        ("a V cat", '"V"'),
    ],
)
def test_a_prompt_that_seems_to_hold_v_star_is_told_what_it_holds(prompt: str, found: str) -> None:
    message = refusal_of(pair_prompts, prompt, "V*", "cat", "dog")
    assert f"does not contain V* as a word of its own; it holds {found}, which is read otherwise. Write V* " in message


def test_a_prompt_without_anything_like_v_star_is_told_only_that() -> None:
    message = refusal_of(pair_prompts, "a cat in a cave", "V*", "cat", "dog")
    assert "'a cat in a cave' does not contain V*. Write V* where your subject belongs" in message


@pytest.mark.parametrize(
    ("prompt", "placeholder", "found"),
    [
        ("a V*, (V*:1.2), V*-like, V*'s, <V*>", "V*", []),
        ("risks of a sksdog", "sks", ["sksdog"]),
        ("to mend a tom", "tom", []),
        ("a <my-cat> and <my-cat>s", "<my-cat>", ["<my-cat>s"]),
    ],
)
def test_only_what_is_not_read_is_a_near_miss(prompt: str, placeholder: str, found: list[str]) -> None:
    assert near_misses(prompt, placeholder) == found


@pytest.mark.parametrize("placeholder", ["a", "The", "dog", "DOGS", "of", "red", "photo", "s", "woman"])
def test_a_common_word_is_no_placeholder(placeholder: str) -> None:
    message = refusal_of(check_placeholder, placeholder, "cat")
    assert f"The placeholder {placeholder!r} is a common word" in message
    assert 'Choose another, for example "V*", or a word that means nothing, such as "sks"' in message
    assert placeholder_warning(placeholder) == message


@pytest.mark.parametrize("placeholder", ["V*", "S*", "sks", "ktn", "ohwx", "tom", "Bella", "<dog>", "my-dog", "dog1"])
def test_names_and_words_of_no_meaning_are_placeholders(placeholder: str) -> None:
    check_placeholder(placeholder, "cat")
    assert placeholder_warning(placeholder) is None


def test_the_examples_of_plurals_are_true() -> None:
    import doctest

    assert doctest.testmod(plurals).failed == 0 < doctest.testmod(plurals).attempted
