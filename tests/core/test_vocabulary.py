"""A vocabulary completed around the rows that a model was trained with."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.vocabulary import complete_vocabulary


def test_a_vocabulary_is_completed_around_the_rows_that_are_there() -> None:
    rows = torch.tensor([[1.0, -1.0], [3.0, -3.0]])
    whole = complete_vocabulary(rows, torch.tensor([4, 1]), size=500)
    assert whole.shape == (500, 2) and torch.equal(whole[4], rows[0]) and torch.equal(whole[1], rows[1])
    others = torch.cat([whole[:1], whole[2:4], whole[5:]])
    torch.testing.assert_close(others.std(), rows.std(), rtol=0.1, atol=0.0)
    assert torch.equal(whole, complete_vocabulary(rows, torch.tensor([4, 1]), size=500))
    assert not torch.equal(whole, complete_vocabulary(rows, torch.tensor([4, 1]), size=500, seed=1))


@pytest.mark.parametrize(("ids", "told"), [([1], "1 different"), ([1, 1], "1 different"), ([0, 9], "0 to 8 exist")])
def test_a_vocabulary_that_does_not_fit_is_told(ids: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        complete_vocabulary(torch.zeros(2, 3), torch.tensor(ids), size=9)
