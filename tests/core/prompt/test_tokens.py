"""The token sets T(P) and T(P_a), found in tokenized prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prompt.tokens import auxiliary_token_set, concept_token_set, prompt_tokens

START, END = 49406, 49407


A, CAT, PHOTO, OF, DOG, PLUSHY, TORTOISE = 320, 2368, 1125, 539, 1929, 40887, 26038


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
