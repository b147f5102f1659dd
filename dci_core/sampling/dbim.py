"""Dual-Branch Integration Module: blend two branches' cross-attention outputs (eq. 3-5).

Everything is per head and per image token, before the layer's output projection. The constants of
the "reference" preset are those of the authors' published code (METHOD section 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..prompt.tokens import TokenSet
from .dial import REFERENCE_GAIN, Part
from .settings import MaskPreset

TOKEN_TEMPERATURE = 10.0
SPATIAL_TEMPERATURE = 10.0
SPATIAL_GAIN = REFERENCE_GAIN


def attention_scores(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """Return the raw scores M = QKᵀ/√d of eq. 3.

    Args:
        q: image queries, [B, N, H·d].
        k: text keys, [B, K, H·d].
        heads: H.

    Returns:
        [B, H, N, K], float32 (float64 for float64 input) whatever the model's precision.
    """
    precision = torch.float64 if q.dtype == torch.float64 else torch.float32

    def by_head(x: Tensor) -> Tensor:  # [B·H, n, d]; change of precision and of layout in one pass
        split = x.unflatten(-1, (heads, -1)).transpose(1, 2)
        return split.to(precision, memory_format=torch.contiguous_format).flatten(0, 1)

    queries, keys = by_head(q), by_head(k)
    unread = queries.new_empty(())  # β = 0
    scores = torch.baddbmm(unread, queries, keys.transpose(1, 2), beta=0, alpha=queries.shape[-1] ** -0.5)
    return scores.unflatten(0, (-1, heads))


def columns(values: Tensor, positions: Sequence[int]) -> Tensor:
    """Return some columns of the last dimension, as ``values[..., positions]``, without making a GPU wait.

    A list as an index is copied to the GPU first, for which the host stops at every layer; neighbours are a slice.

    Args:
        values: [..., K].
        positions: ascending, all below K.

    Returns:
        [..., n], a view where the positions are neighbours.
    """
    starts = [i for i, position in enumerate(positions) if i == 0 or position != positions[i - 1] + 1]
    ends = [*starts[1:], len(positions)]
    runs = [values[..., positions[start] : positions[end - 1] + 1] for start, end in zip(starts, ends)]
    return runs[0] if len(runs) == 1 else torch.cat(runs or [values[..., :0]], dim=-1)


def reference_token_map(scores: Tensor, tokens: TokenSet) -> Tensor:
    """Return m, the share of attention on the selected tokens, as the published code has it.

    Attention probabilities over all K tokens are sharpened and renormalised over the prompt's own:
    A' = softmax_k(10 · A[prompt]); m = Σ_{k ∈ selected} A'_k.

    Args:
        scores: raw scores, [B, H, N, K].
        tokens: the branch's positions, all below K.

    Returns:
        [B, H, N], each value in 0 … 1.
    """
    probabilities = columns(scores.softmax(dim=-1), tokens.prompt)  # [B, H, N, n]
    sharpened = (TOKEN_TEMPERATURE * probabilities).softmax(dim=-1)
    selected = [tokens.prompt.index(position) for position in tokens.selected]
    return columns(sharpened, selected).sum(dim=-1)


def paper_token_map(scores: Tensor, tokens: TokenSet) -> Tensor:
    """Return M_c or M_a of eq. 3: the raw scores summed over the selected tokens, [B, H, N]."""
    return columns(scores, tokens.selected).sum(dim=-1)


def saliency(scores: Tensor, tokens: TokenSet, preset: MaskPreset, gain: float = SPATIAL_GAIN) -> Tensor:
    """Return s: how strongly the branch claims each image token, before λ (inner part of eq. 4).

    Args:
        scores: raw scores, [B, H, N, K].
        tokens: the branch's positions.
        preset: ``paper``: softmax_pixels(M), no gain; all others: gain · softmax_pixels(10 · m).
        gain: of the layer, > 0; 500 is the published code's, see ``dial`` for "calibrated".

    Returns:
        [B, H, N], non-negative.
    """
    if preset is MaskPreset.PAPER:
        return paper_token_map(scores, tokens).softmax(dim=-1)
    return gain * (SPATIAL_TEMPERATURE * reference_token_map(scores, tokens)).softmax(dim=-1)


def layer_gain(preset: MaskPreset, part: Part, tokens: int, relative_area: float) -> float:
    """Return the gain of one layer's saliency.

    Args:
        preset: ``calibrated``: what ``part`` asks for; ``resolution_normalized``: 500 · ``relative_area``; else 500.
        part: of SD1.5's layers, which this layer takes over (``dial.parts_of``).
        tokens: n, of the layer's map.
        relative_area: latent area over the model family's native latent area; 1 is neutral.
    """
    if preset is MaskPreset.CALIBRATED:
        return part.gain(tokens)
    return SPATIAL_GAIN * (relative_area if preset is MaskPreset.RESOLUTION_NORMALIZED else 1.0)


def layer_strength(preset: MaskPreset, part: Part, injection_strength: float) -> float:
    """Return the λ of one layer.

    Args:
        preset: ``calibrated``: what ``part`` asks for; else λ itself.
        part: of SD1.5's layers, which this layer takes over (``dial.parts_of``).
        injection_strength: λ of the run, with what a schedule adds to it.
    """
    return part.strength(injection_strength) if preset is MaskPreset.CALIBRATED else injection_strength


def auxiliary_weight(saliency_concept: Tensor, saliency_auxiliary: Tensor, injection_strength: float) -> Tensor:
    """Return W_a of eq. 4, the softmax over the two branches of (s_c, λ·s_a); W_c is 1 - W_a.

    Args:
        saliency_concept: s_c, [B, H, N].
        saliency_auxiliary: s_a, same shape.
        injection_strength: λ; higher lets the auxiliary branch in, 0 leaves σ(-s_c) ≤ ½.

    Returns:
        [B, H, N], each value in 0 … 1.
    """
    return torch.sigmoid(injection_strength * saliency_auxiliary - saliency_concept)


def blend_outputs(out_concept: Tensor, out_auxiliary: Tensor, weight_auxiliary: Tensor) -> Tensor:
    """Return eq. 5: W_c ⊙ out_c + W_a ⊙ out_a, head by head.

    Args:
        out_concept: attention output of the concept branch, [B, N, H·d].
        out_auxiliary: of the auxiliary branch, same shape.
        weight_auxiliary: W_a, [B, H, N]; 0 returns ``out_concept`` unchanged.

    Returns:
        [B, N, H·d] in the dtype of ``out_concept``, in which W_a is rounded first.
    """
    heads = weight_auxiliary.shape[1]
    w_a = weight_auxiliary.to(out_concept).transpose(1, 2).unsqueeze(-1)  # [B, N, H, 1]
    concept = out_concept.unflatten(-1, (heads, -1))  # [B, N, H, d]
    auxiliary = out_auxiliary.unflatten(-1, (heads, -1))
    return concept.lerp(auxiliary, w_a).flatten(-2)


def add_outputs(out_concept: Tensor, out_auxiliary: Tensor, average: bool, region: Tensor | None = None) -> Tensor:
    """Return the paper's "w/o mask" ablation: out_c + out_a, or half of it when ``average``; shapes as in eq. 5.

    Args:
        out_concept: attention output of the concept branch, [B, N, H·d].
        out_auxiliary: of the auxiliary branch, same shape.
        average: True halves the sum.
        region: [B, N], 0 leaves ``out_concept`` as it is, 1 is neutral, between is between; None is 1 everywhere.
    """
    if region is None:
        total = out_concept + out_auxiliary
        return total / 2 if average else total
    share = region.to(out_concept).unsqueeze(-1)  # [B, N, 1]
    if average:
        return (1.0 - share / 2) * out_concept + share / 2 * out_auxiliary
    return out_concept + share * out_auxiliary


def limit_weight(weight_auxiliary: Tensor, region: Tensor | None) -> Tensor:
    """Return W_a within a region: 1 leaves it, 0 silences the auxiliary branch.

    Args:
        weight_auxiliary: W_a, [B, H, N].
        region: [B, N], values 0 … 1; None is 1 everywhere.
    """
    return weight_auxiliary if region is None else weight_auxiliary * region.to(weight_auxiliary).unsqueeze(1)
