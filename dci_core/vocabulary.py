"""A whole table of word embeddings from the few rows that a small model was trained with."""

from __future__ import annotations

import torch
from torch import Tensor


def complete_vocabulary(rows: Tensor, ids: Tensor, size: int, seed: int = 0) -> Tensor:
    """Return a whole token embedding from the few rows that a model was trained with.

    The other words get random rows of the same spread, so that a prompt may hold any word; the model learned
    nothing about them. The same arguments give the same bytes.

    Args:
        rows: [N, D], the stored rows.
        ids: [N], integer, the token each row belongs to, 0 … size - 1.
        size: tokens in the vocabulary (CLIP: 49408).
        seed: of the random rows.

    Returns:
        [size, D], of the type of ``rows``.

    Raises:
        ValueError: ``ids`` do not fit ``rows``, are not all different, or lie outside the vocabulary.
    """
    numbers = ids.long()
    if numbers.shape != rows.shape[:1] or len(numbers.unique()) != len(numbers):
        raise ValueError(f"{len(rows)} embedding rows came with {len(numbers.unique())} different token ids.")
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < size:
        raise ValueError(f"Token ids reach from {int(numbers.min())} to {int(numbers.max())}; 0 to {size - 1} exist.")
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn((size, rows.shape[1]), generator=generator) * rows.float().std()
    whole[numbers] = rows.float()
    return whole.to(rows.dtype)
