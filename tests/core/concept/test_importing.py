"""A concept from what was found: differences from the base, one word or all of them, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from comfyui_dci.dci_core.concept.foreign import Foreign
from comfyui_dci.dci_core.concept.importing import imported_concept, joined, needed_keys
from comfyui_dci.dci_core.errors import UserInputError
from concept_files import KEY, VALUE, small_info

INFO = replace(small_info(), placeholder="V*")
ONE, TWO = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
WORDS = {"<new1>": {"clip_l": ONE}, "<new2>": {"clip_l": TWO}}
WEIGHTS = {KEY: torch.tensor([[2.0, 3.0]]), VALUE: torch.tensor([[1.0, 1.0]])}
BASE = {f"{KEY}.weight": torch.tensor([[1.5, 3.5]]).half(), f"{VALUE}.weight": torch.ones(1, 2)}


def test_changes_are_what_differs_from_the_base() -> None:
    found = Foreign(WEIGHTS, words=WORDS)
    assert needed_keys(found) == [f"{KEY}.weight", f"{VALUE}.weight"]
    concept = imported_concept(found, BASE, INFO).concept
    assert {name: delta.tolist() for name, delta in concept.deltas.items()} == {KEY: [[0.5, -0.5]], VALUE: [[0.0, 0.0]]}
    assert all(delta.dtype == torch.float32 for delta in concept.deltas.values())
    given = Foreign(changes=WEIGHTS, words=WORDS)
    assert imported_concept(given, BASE, INFO).concept.deltas == WEIGHTS


def test_the_placeholder_stands_for_all_words_or_for_one() -> None:
    found = Foreign(words=WORDS)
    every, one = imported_concept(found, {}, INFO), imported_concept(found, {}, INFO, "<new2>")
    assert (
        every.concept.tokens["clip_l"].tolist() == [[1, 2], [3, 4], [5, 6]] and every.concept.info.concept_vectors == 3
    )
    assert every.remarks == (
        "The file holds <new1>, <new2>: V* stands for all of them together. Set word to take one.",
    )
    assert one.concept.tokens["clip_l"].tolist() == TWO.tolist() and one.concept.info.concept_vectors == 2
    assert one.remarks == () and not one.concept.deltas
    with pytest.raises(UserInputError, match="no word 'new1' in the file. It holds <new1>, <new2>; leave word empty"):
        imported_concept(found, {}, INFO, "new1")


def test_a_word_of_too_many_vectors_is_refused() -> None:
    words = {f"<new{number}>": {"clip_l": TWO} for number in range(1, 10)}
    with pytest.raises(UserInputError, match="<new8> and 1 more have 18 vectors, and a concept has 1 to 16"):
        imported_concept(Foreign(words=words), {}, INFO)
    uneven = Foreign(words={"a": {"clip_l": ONE, "clip_g": TWO}})
    with pytest.raises(UserInputError, match="a has 1 vectors, and a concept has 1 to 16, the same number for each"):
        imported_concept(uneven, {}, INFO)


def test_weights_that_the_model_lacks_or_has_in_another_shape_are_named() -> None:
    found = Foreign(WEIGHTS, words=WORDS)
    with pytest.raises(UserInputError, match=r"a weight .*to_v.weight of shape \(1, 2\), this model has none. Connect"):
        imported_concept(found, {f"{KEY}.weight": torch.ones(1, 2)}, INFO)
    wide = {**BASE, f"{VALUE}.weight": torch.ones(1, 3)}
    for given in (found, Foreign(changes=WEIGHTS, words=WORDS)):
        with pytest.raises(UserInputError, match=r"this model has one of shape \(1, 3\)"):
            imported_concept(given, wide, INFO)
    with pytest.raises(UserInputError, match=r"a weight .*to_k, but none .*to_v. A concept changes K and V"):
        imported_concept(Foreign({KEY: WEIGHTS[KEY]}, words=WORDS), BASE, INFO)


def test_a_trained_bias_is_left_out_and_told() -> None:
    out = KEY.replace("to_k", "to_out.0")
    found = Foreign({**WEIGHTS, out: torch.ones(1, 1)}, biases={out: torch.tensor([7.0])}, words=WORDS)
    assert needed_keys(found)[2:] == [f"{out}.weight", f"{out}.bias"]
    base = {**BASE, f"{out}.weight": torch.ones(1, 1), f"{out}.bias": torch.tensor([7.0])}
    assert imported_concept(found, base, INFO, "<new1>").remarks == ()
    (remark,) = imported_concept(found, {**base, f"{out}.bias": torch.tensor([6.0])}, INFO, "<new1>").remarks
    assert "biases of output projections, which a concept cannot hold" in remark


def test_two_files_are_one_when_each_holds_its_part() -> None:
    weights, words = Foreign(WEIGHTS), Foreign(words=WORDS)
    assert joined([weights, words]) == joined([words, weights]) == Foreign(WEIGHTS, words=WORDS)
    assert joined([words]) == words
    for files, reason in (
        ([weights], "There are no vectors of a word. Choose under embedding the file"),
        ([weights, Foreign(WEIGHTS, words=WORDS)], "Both files hold weights. Set weights or embedding to none"),
        ([words, words], "Both files hold vectors"),
    ):
        with pytest.raises(UserInputError, match=reason):
            joined(files)
