"""Scores over repeated and appended text tokens give the attention of the text as it is."""

from __future__ import annotations

import math

import pytest
import torch
from comfyui_dci.dci_core.sampling.dbim import attention_scores
from comfyui_dci.dci_core.sampling.text_columns import prompt_scores


def queries_and_keys(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 5, 6, generator=generator, dtype=torch.float64),
        torch.randn(2, tokens, 6, generator=generator, dtype=torch.float64),
    )


def test_two_copies_and_one_appended_token_by_hand() -> None:
    """q = 1, keys 0 and ln 2, twice, then ln 3: weights 1, 2, 1, 2, 3 of 9; folded 2/9, 4/9, 3/9."""
    q = torch.ones(1, 1, 1, dtype=torch.float64)
    k = torch.tensor([0.0, math.log(2), 0.0, math.log(2), math.log(3)], dtype=torch.float64).view(1, 5, 1)
    folded = prompt_scores(q, k, heads=1, length=2, text_length=4).softmax(dim=-1)
    torch.testing.assert_close(folded.flatten(), torch.tensor([2.0, 4.0, 3.0], dtype=torch.float64) / 9)


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("appended", [0, 1, 4])
def test_every_token_gets_the_attention_of_its_copies(copies: int, appended: int) -> None:
    q, k = queries_and_keys(4 + appended)
    text = torch.cat([k[:, :4].repeat(1, copies, 1), k[:, 4:]], dim=1)
    folded = prompt_scores(q, text, heads=2, length=4, text_length=4 * copies).softmax(dim=-1)
    plain = attention_scores(q, text, heads=2).softmax(dim=-1)
    summed = plain[..., : 4 * copies].unflatten(-1, (copies, 4)).sum(dim=-2)
    torch.testing.assert_close(folded[..., :4], summed)
    torch.testing.assert_close(folded[..., 4:], plain[..., 4 * copies :])


def test_a_text_that_is_not_repeated_is_left_as_it_is() -> None:
    q, k = queries_and_keys(7)
    assert torch.equal(prompt_scores(q, k, heads=2, length=4, text_length=7), attention_scores(q, k, heads=2))
    assert torch.equal(prompt_scores(q, k, heads=2, length=4, text_length=4), attention_scores(q, k, heads=2))
