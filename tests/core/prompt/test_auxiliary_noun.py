"""What "auto" chooses an auxiliary noun from, and the score by which it does."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.prompt.auxiliary_noun import (
    COMMON_NOUNS,
    NounChoice,
    best_noun,
    context_fit,
    first_unrelated_noun,
    unrelated_nouns,
)


def test_the_fit_by_hand() -> None:
    context, neutral_context = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    prompts = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 5.0]])  # cosines 0.6, 1, 0
    neutral = torch.tensor([[0.0, 1.0], [1.0, 0.0], [4.0, 3.0]])  # cosines 1, 0, 0.6
    fit = context_fit(prompts, context, neutral, neutral_context)
    torch.testing.assert_close(fit, torch.tensor([-0.4, 1.0, -0.6]))


def test_the_fit_against_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    p, n = (torch.randn(20, 64, generator=generator) for _ in range(2))
    c, m = (torch.randn(64, generator=generator) for _ in range(2))

    def cosine(rows: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
        rows, one = rows.double(), one.double()
        return (rows * one).sum(-1) / (rows.pow(2).sum(-1).sqrt() * one.pow(2).sum().sqrt())

    torch.testing.assert_close(context_fit(p, c, n, m).double(), cosine(p, c) - cosine(n, m), rtol=0, atol=1e-6)


def test_a_noun_that_fits_as_anywhere_scores_zero() -> None:
    vectors = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    assert context_fit(vectors, vectors[0], vectors, vectors[0]).tolist() == [0.0] * 5


def test_the_best_noun_is_explained() -> None:
    choice = best_noun(["dog", "cat", "horse", "bird"], torch.tensor([0.1, 0.5, -0.2, 0.5]))
    assert choice == NounChoice("cat", (("cat", 0.5), ("bird", 0.5), ("dog", pytest.approx(0.1))))
    assert choice.text() == "auxiliary noun cat, fits the scene best: cat +0.500, bird +0.500, dog +0.100"
    assert NounChoice("dog").text() == "auxiliary noun dog: the prompt has no scene to choose by"


def test_the_first_unrelated_noun_shares_no_word_with_the_class_noun() -> None:
    assert first_unrelated_noun("tortoise plushy") == COMMON_NOUNS[0]
    assert first_unrelated_noun("Dog") == COMMON_NOUNS[1]
    assert first_unrelated_noun("dog cat toy") == COMMON_NOUNS[2]


def test_unrelated_nouns_leave_out_every_word_of_a_text() -> None:
    left = unrelated_nouns("two Dogs, boxes and a (horse:1.2) at night")
    assert set(COMMON_NOUNS) - set(left) == {"dog", "box", "horse"} and left == [n for n in COMMON_NOUNS if n in left]
    assert len(set(COMMON_NOUNS)) == len(COMMON_NOUNS)


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("teddybear", {"bear"}),
        ("red sailboats", {"boat"}),
        ("bookshelf", {"book"}),
        ("caterpillar", {"cat"}),
        ("scar", {"car"}),
    ],
)
def test_a_part_of_a_word_is_not_unrelated_to_it(text: str, left_out: set[str]) -> None:
    assert set(COMMON_NOUNS) - set(unrelated_nouns(text)) == left_out
