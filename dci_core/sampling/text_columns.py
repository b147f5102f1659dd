"""Raw scores of eq. 3 where the host or another node has made the text longer than the prompt's conditioning."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .dbim import attention_scores


def prompt_scores(q: Tensor, k: Tensor, heads: int, length: int, text_length: int) -> Tensor:
    """Return raw scores whose softmax over tokens gives each prompt token its whole attention.

    A shorter conditioning is repeated to the length of a longer one beside it, so each of its tokens stands in
    the text several times; patches of other nodes append tokens of their own behind that. The m copies of a token
    count as one column with log m added, which leaves the softmax exact.

    Args:
        q: image queries, [B, N, H·d].
        k: text keys as the layer got them, [B, K, H·d].
        heads: H.
        length: tokens of the branch's own conditioning, at most ``text_length``.
        text_length: tokens of the text as the host handed it to the network, at most K. Not a multiple of
            ``length``: whatever follows the first ``length`` tokens was appended.

    Returns:
        [B, H, N, length + appended], float32 (float64 for float64 input).
    """
    copies, rest = divmod(text_length, length)
    if rest:
        copies, text_length = 1, length
    if copies == 1:
        return attention_scores(q, k, heads)
    scores = attention_scores(q, torch.cat([k[:, :length], k[:, text_length:]], dim=1), heads)
    scores[..., :length] += math.log(copies)
    return scores
