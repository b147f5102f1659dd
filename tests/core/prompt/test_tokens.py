"""The token sets T(P) and T(P_a), found in tokenized prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prompt.marks import CLOSED, OPENED, Mark, marked, marked_indices, marked_word
from comfyui_dci.dci_core.prompt.tokens import TokenSet, prompt_tokens, token_set, without

START, END = 49406, 49407
A, CAT, OF, DOG = 320, 2368, 539, 1929


def chunk(tokens: Sequence[Any]) -> list[tuple[Any, float, int]]:
    """One row of 77 as the host tokenizes it: start, real tokens, end, padding; word id 0 is not a word."""
    assert len(tokens) <= 75
    words = [(token, 1.0, number) for number, token in enumerate(tokens, start=1)]
    return [(START, 1.0, 0), *words, *[(END, 1.0, 0)] * (76 - len(tokens))]


def test_real_tokens_are_listed_with_their_positions_in_the_conditioning() -> None:
    chunks = [chunk([A, CAT] * 37 + [A]), chunk([OF, DOG])]
    tokens = prompt_tokens(chunks)
    assert [position for position, _ in tokens] == [*range(1, 76), 78, 79]
    assert [token for _, token in tokens] == [A, CAT] * 37 + [A, OF, DOG]


def test_a_prompt_of_nothing_has_no_tokens() -> None:
    assert prompt_tokens([chunk([])]) == []
    with pytest.raises(UserInputError, match="Write at least one word"):
        token_set([], [])


def test_the_tokens_of_all_words_are_selected_in_the_order_of_the_prompt() -> None:
    tokens = prompt_tokens([chunk([A] * 75), chunk([OF, CAT, DOG])])
    found = token_set(tokens, [(80,), (3, 75), (3, 4)])
    assert found.prompt == (*range(1, 76), 78, 79, 80)
    assert found.selected == (3, 4, 75, 80)


def test_a_position_that_is_not_the_prompts_is_refused() -> None:
    with pytest.raises(UserInputError, match="not among the prompt's positions"):
        token_set(prompt_tokens([chunk([A, CAT])]), [(7,)])


def test_the_other_branch_has_all_other_tokens() -> None:
    assert without(TokenSet((1, 2, 3, 78), (2, 78))).selected == (1, 3)
    assert without(TokenSet((1, 2), (1, 2))) == TokenSet((1, 2), ())
    assert without(TokenSet((1, 2), ())).selected == (1, 2)


def test_marks_stand_around_words_and_nothing_else_changes() -> None:
    text = "a (sks dog:1.2), sks dog"
    spans = [(17, 20), (3, 6), (7, 10)]
    assert marked(text, spans) == f"a ({marked_word('sks')} {marked_word('dog')}:1.2), {marked_word('sks')} dog"
    assert marked_word("sks") == f"{OPENED} sks {CLOSED}"
    assert marked(text, []) == text


def test_marked_words_are_found_among_the_tokens_without_marks() -> None:
    opened, closed = Mark(True), Mark(False)
    vector = object()
    tokens = [A, opened, vector, vector, closed, opened, CAT, closed, OF, opened, closed]
    assert marked_indices(tokens) == ([A, vector, vector, CAT, OF], [(1, 2), (3,), ()])
    assert marked_indices([A, CAT]) == ([A, CAT], [])
