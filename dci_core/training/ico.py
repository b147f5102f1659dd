"""ICO prompts (eq. 2): learned image-specific contexts around the concept's own vectors and its noun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..concept.scheme import ICOScheme
from ..errors import UserInputError

CONCEPT_INITIAL_IDS = (43514, 47629, 42170)
"""Rare vocabulary entries that initialise the last vectors of [T], in prompt order ("ucd", "pll", "ktn")."""

PREFIX_WORDS = {1: ("a",), 2: ("photo", "of"), 3: ("photo", "of", "a"), 4: ("a", "photo", "of", "a")}
SUFFIX_WORDS = {1: (".",), 2: (".", ".")}
TEMPLATE_WORDS = ("photo", "of", "a")
"""What stands before V* in modes without learned contexts, as in Custom Diffusion."""

INITIAL_STD = 0.02


@dataclass(frozen=True)
class PromptWords:
    """One text encoder's frozen word embeddings around the learned vectors.

    Args:
        start: BOS, [D].
        noun: the class noun [E], [n, D].
        end: EOS, [D].
        padding: [D].
        length: rows the encoder takes, 77.
    """

    start: Tensor
    noun: Tensor
    end: Tensor
    padding: Tensor
    length: int = 77

    def to(self, device: torch.device) -> PromptWords:
        """Return the same words on a device."""
        start, noun, end, padding = (part.to(device) for part in (self.start, self.noun, self.end, self.padding))
        return PromptWords(start, noun, end, padding, self.length)


def template_prompt(noun: str) -> str:
    """Return the template's words before a noun: "photo of a cat"."""
    return " ".join((*TEMPLATE_WORDS, noun))


def end_position(words: PromptWords, scheme: ICOScheme, caption_tokens: int = 0) -> int:
    """Return the position of EOS in a training prompt whose caption has so many tokens.

    Raises:
        UserInputError: contexts, concept vectors, noun and caption do not fit into one prompt.
    """
    position = 1 + scheme.contexts + scheme.concept_vectors + words.noun.shape[0] + caption_tokens
    if position >= words.length:
        shorter = "caption, a shorter class noun" if caption_tokens else "class noun"
        raise UserInputError(
            f"The training prompt needs {position + 1} tokens, the text encoder takes {words.length}. "
            f"Use a shorter {shorter} or fewer vectors."
        )
    return position


def assemble_prompts(
    words: PromptWords, concept: Tensor, contexts: Tensor, scheme: ICOScheme, captions: Sequence[Tensor] | None = None
) -> Tensor:
    """Return P_i of eq. 2 as embeddings: BOS [I]_1…M [T] [E] [I]_M+1…M+L caption EOS padding.

    The paper has no captions; without them this is eq. 2. Their words are frozen and replace nothing.

    Args:
        words: the frozen embeddings.
        concept: [T], [S, D], shared by all images.
        contexts: [I] of each image of the batch, [B, M+L, D].
        scheme: M, L, S.
        captions: the words of each image's caption, B of [c, D] with c ≥ 0 of its own; None is none.

    Returns:
        [B, 77, D], differentiable in ``concept`` and ``contexts``. The encoder adds the position
        embeddings of where the vectors really stand (the published code does not).
    """
    batch = contexts.shape[0]
    before, after = contexts[:, : scheme.prefix], contexts[:, scheme.prefix :]
    middle = torch.cat([concept, words.noun]).expand(batch, -1, -1)
    tail = torch.stack([_tail(words, scheme, caption) for caption in captions or [words.noun[:0]] * batch])
    return torch.cat([words.start.expand(batch, 1, -1), before, middle, after, tail], dim=1)


def _tail(words: PromptWords, scheme: ICOScheme, caption: Tensor) -> Tensor:
    """Return a caption's words, EOS and the padding behind, up to the encoder's length."""
    padding = words.length - end_position(words, scheme, caption.shape[0]) - 1
    return torch.cat([caption, words.end[None], words.padding.expand(padding, -1)])


def assemble_free_prompt(words: PromptWords, embeddings: Tensor) -> tuple[Tensor, int]:
    """Return BOS, any embeddings [n, D], EOS and padding as [1, 77, D], and the position of EOS.

    Raises:
        UserInputError: the embeddings do not fit into one prompt.
    """
    position = 1 + embeddings.shape[0]
    if position >= words.length:
        raise UserInputError(
            f"The prompt needs {position + 1} tokens, the text encoder takes {words.length}. Use a shorter prompt."
        )
    padding = words.padding.expand(words.length - position - 1, -1)
    return torch.cat([words.start[None], embeddings, words.end[None], padding])[None], position


def initial_concept(rare: Tensor, scheme: ICOScheme, generator: torch.Generator) -> Tensor:
    """Return [T] before training: rare words' embeddings, filled up in front with normal(0, 0.02).

    Args:
        rare: embeddings of ``CONCEPT_INITIAL_IDS``, [3, D].
        scheme: S vectors are returned.
        generator: draws the vectors that have no word.

    Returns:
        [S, D].
    """
    used = min(scheme.concept_vectors, rare.shape[0])
    drawn = torch.randn(scheme.concept_vectors - used, rare.shape[1], generator=generator) * INITIAL_STD
    return torch.cat([drawn.to(rare), rare[rare.shape[0] - used :]])


def initial_contexts(
    prefix_words: Tensor | None,
    suffix_words: Tensor | None,
    images: int,
    scheme: ICOScheme,
    width: int,
    generator: torch.Generator,
) -> Tensor:
    """Return [I] before training: one word per vector where a phrase of that length exists, else normal(0, 0.02).

    Args:
        prefix_words: embeddings of ``PREFIX_WORDS[M]``, [M, D], or None where there is no such phrase.
        suffix_words: embeddings of ``SUFFIX_WORDS[L]``, [L, D], or None.
        images: n, number of reference images; each gets its own independent set.
        scheme: M and L.
        width: D.
        generator: draws the vectors that have no word.

    Returns:
        [n, M+L, D].
    """
    sides = []
    for count, given in ((scheme.prefix, prefix_words), (scheme.suffix, suffix_words)):
        drawn = torch.randn(images, count, width, generator=generator) * INITIAL_STD
        sides.append(drawn if given is None else given.cpu().float().expand(images, -1, -1))
    return torch.cat(sides, dim=1).contiguous()
