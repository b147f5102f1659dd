"""The blend of eq. 3-5 written out in plain loops from METHOD section 3, and branches to try it on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from comfyui_dci.dci_core.prompt.tokens import TokenSet
from comfyui_dci.dci_core.sampling.settings import MaskPreset
from torch import Tensor


@dataclass(frozen=True)
class Branches:
    """Both branches' queries, keys and attention outputs, and what METHOD calls T(P) and T(P_a)."""

    q_concept: Tensor
    k_concept: Tensor
    out_concept: Tensor
    q_auxiliary: Tensor
    k_auxiliary: Tensor
    out_auxiliary: Tensor
    concept_prompt: tuple[int, ...]
    concept_tokens: tuple[int, ...]
    auxiliary_prompt: tuple[int, ...]
    auxiliary_noun: tuple[int, ...]
    heads: int

    @property
    def concept_set(self) -> TokenSet:
        return TokenSet(self.concept_prompt, self.concept_tokens)

    @property
    def auxiliary_set(self) -> TokenSet:
        others = tuple(p for p in self.auxiliary_prompt if p not in self.auxiliary_noun)
        return TokenSet(self.auxiliary_prompt, others)


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


def head_scores(q: Tensor, k: Tensor, head: int, heads: int) -> list[list[float]]:
    """M = QKᵀ/√d of one head of one image, pixels × tokens."""
    depth = q.shape[-1] // heads
    own = range(head * depth, (head + 1) * depth)
    return [
        [sum(float(q[n, i]) * float(k[t, i]) for i in own) / math.sqrt(depth) for t in range(k.shape[0])]
        for n in range(q.shape[0])
    ]


def code_saliencies(b: Branches, image: int, head: int, gain: float = 500.0) -> tuple[list[float], list[float]]:
    """(s_c, s_a) of METHOD's "DBIM, the code", for one head."""
    m_c, m_a = [], []
    for row in head_scores(b.q_concept[image], b.k_concept[image], head, b.heads):
        a_c = softmax(row)
        sharpened = dict(zip(b.concept_prompt, softmax([10 * a_c[k] for k in b.concept_prompt])))
        m_c.append(sum(sharpened[k] for k in b.concept_tokens))
    for row in head_scores(b.q_auxiliary[image], b.k_auxiliary[image], head, b.heads):
        a_a = softmax(row)
        sharpened = dict(zip(b.auxiliary_prompt, softmax([10 * a_a[k] for k in b.auxiliary_prompt])))
        m_a.append(sum(sharpened.values()) - sum(sharpened[k] for k in b.auxiliary_noun))
    s_c = [gain * share for share in softmax([10 * m for m in m_c])]
    s_a = [gain * share for share in softmax([10 * m for m in m_a])]
    return s_c, s_a


def paper_saliencies(b: Branches, image: int, head: int) -> tuple[list[float], list[float]]:
    """(S_s(M_c), S_s(M_a)) of eq. 3 and 4, for one head."""
    others = [k for k in b.auxiliary_prompt if k not in b.auxiliary_noun]
    concept = head_scores(b.q_concept[image], b.k_concept[image], head, b.heads)
    auxiliary = head_scores(b.q_auxiliary[image], b.k_auxiliary[image], head, b.heads)
    return (
        softmax([sum(row[k] for k in b.concept_tokens) for row in concept]),
        softmax([sum(row[k] for k in others) for row in auxiliary]),
    )


def expected_output(b: Branches, injection_strength: float, preset: MaskPreset, gain: float = 500.0) -> Tensor:
    """Eq. 5 with the weights of eq. 4, pixel by pixel and channel by channel."""
    result = torch.empty_like(b.out_concept)
    depth = result.shape[-1] // b.heads
    for image in range(result.shape[0]):
        for head in range(b.heads):
            paper = preset is MaskPreset.PAPER
            s_c, s_a = paper_saliencies(b, image, head) if paper else code_saliencies(b, image, head, gain)
            for n in range(result.shape[1]):
                w_c, w_a = softmax([s_c[n], injection_strength * s_a[n]])
                for i in range(head * depth, (head + 1) * depth):
                    result[image, n, i] = w_c * b.out_concept[image, n, i] + w_a * b.out_auxiliary[image, n, i]
    return result


def random_branches(seed: int, scale: float = 1.0) -> Branches:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    return Branches(
        q_concept=draw(2, 6, 12),
        k_concept=draw(2, 11, 12),
        out_concept=draw(2, 6, 12),
        q_auxiliary=draw(2, 6, 12),
        k_auxiliary=draw(2, 11, 12),
        out_auxiliary=draw(2, 6, 12),
        concept_prompt=(1, 2, 3, 4, 7, 8),  # positions 5 and 6 are the end of one chunk and the start of the next
        concept_tokens=(2, 3, 4),
        auxiliary_prompt=(1, 2, 3, 7),
        auxiliary_noun=(2,),
        heads=3,
    )


def hand_made_branches() -> Branches:
    """Four pixels, of which the first attends to the concept and the second to the context only."""
    q = torch.tensor([[[3.0, 0.0], [0.0, 3.0], [1.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    k = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [-1.0, -1.0]]], dtype=torch.float64)
    return Branches(
        q_concept=q,
        k_concept=k,
        out_concept=torch.ones(1, 4, 2, dtype=torch.float64),
        q_auxiliary=q.flip(1),
        k_auxiliary=k,
        out_auxiliary=-torch.ones(1, 4, 2, dtype=torch.float64),
        concept_prompt=(1, 2),
        concept_tokens=(1,),
        auxiliary_prompt=(1, 2),
        auxiliary_noun=(1,),
        heads=1,
    )
