"""What a step is made of: rows of prompts, and images drawn mirrored or not."""

from __future__ import annotations

import torch
from comfyui_dci.dci_core.training.data import ImageSet, TextConditioning


def text(*rows: float, pooled: bool = True) -> TextConditioning:
    values = torch.tensor(rows)
    return TextConditioning(values[:, None, None].expand(-1, 2, 3), values[:, None] if pooled else None)


def test_rows_and_joined_prompts_keep_context_and_pooled_together() -> None:
    both = text(1.0, 2.0).joined(text(3.0, 4.0)).rows(torch.tensor([3, 0, 3]))
    assert both.pooled is not None and both.pooled.flatten().tolist() == [4.0, 1.0, 4.0]
    assert both.context.shape == (3, 2, 3) and both.context[:, 1, 2].tolist() == [4.0, 1.0, 4.0]


def test_prompts_without_a_pooled_vector_give_none() -> None:
    joined = text(1.0).joined(text(2.0, pooled=False))
    assert joined.pooled is None and joined.context.shape == (2, 2, 3)
    assert text(1.0, pooled=False).rows(torch.tensor([0, 0])).pooled is None


def test_an_image_is_drawn_with_the_mask_of_the_same_side() -> None:
    latents = torch.arange(6.0).view(3, 2, 1, 1, 1)  # image i has 2i, mirrored 2i + 1
    images = ImageSet(latents, list(latents + 100.0))
    drawn = images.draw(torch.tensor([2, 0, 1, 2]), torch.Generator().manual_seed(3))
    values = [image.latents.item() for image in drawn]
    assert [value // 2 for value in values] == [2, 0, 1, 2] and {value % 2 for value in values} == {0.0, 1.0}
    assert [image.mask.item() for image in drawn if image.mask is not None] == [value + 100.0 for value in values]
    unmasked = ImageSet(latents[:, :1]).draw(torch.tensor([1]), torch.Generator())
    assert (unmasked[0].latents.item(), unmasked[0].mask) == (2.0, None)
