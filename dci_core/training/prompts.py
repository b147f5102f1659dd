"""The prompts of the reference images: frozen words around the vectors being learned (eq. 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..concept.scheme import ICOScheme
from .data import TextConditioning
from .ico import PromptWords, assemble_prompts, end_position
from .model import PromptEncoder
from .settings import TrainingSettings


@dataclass(frozen=True)
class PromptParts:
    """What prompts are made of before training, each per text encoder.

    Args:
        words: frozen word embeddings.
        tokens: [T], [S, D].
        contexts: [I], or the template's words, [n, M+L, D] of ``TrainingSettings.prompt_scheme``.
        captions: words added to each image's prompt, n of [c, D], c ≥ 0 of its own; None is none.
    """

    words: Mapping[str, PromptWords]
    tokens: Mapping[str, Tensor]
    contexts: Mapping[str, Tensor]
    captions: Mapping[str, Sequence[Tensor]] | None = None


class TrainingPrompts:
    """A prompt per reference image, on copies of [T] and [I] that are trained where the mode says so.

    Args:
        parts: what they are made of.
        settings: scheme and mode are used.

    Raises:
        UserInputError: a prompt does not fit into the text encoder.
    """

    def __init__(self, parts: PromptParts, settings: TrainingSettings) -> None:
        mode, first = settings.mode, next(iter(parts.words))
        images = len(parts.contexts[first])
        self.words = parts.words
        self.tokens = {name: _parameter(value, mode.learns_tokens) for name, value in parts.tokens.items()}
        self.contexts = {name: _parameter(value, mode.learns_contexts) for name, value in parts.contexts.items()}
        self.captions = parts.captions or {name: [words.noun[:0]] * images for name, words in parts.words.items()}
        self._scheme = settings.prompt_scheme
        self._ends = [end_position(parts.words[first], self._scheme, len(text)) for text in self.captions[first]]

    def encode(self, encoder: PromptEncoder, images: Tensor) -> TextConditioning:
        """Return the encoded prompts of some reference images, [B] indices."""
        return self._encode(encoder, images, self.contexts, self._scheme)

    def encode_without_contexts(self, encoder: PromptEncoder, images: Tensor) -> TextConditioning:
        """Return the same of "V* <noun>" alone: BOS [T] [E] caption EOS."""
        none = {name: contexts[:, :0] for name, contexts in self.contexts.items()}
        return self._encode(encoder, images, none, ICOScheme(0, 0, self._scheme.concept_vectors))

    def _encode(
        self, encoder: PromptEncoder, images: Tensor, contexts: Mapping[str, Tensor], scheme: ICOScheme
    ) -> TextConditioning:
        numbers = images.tolist()
        prompts = {
            name: assemble_prompts(
                words,
                self.tokens[name],
                contexts[name][images.to(contexts[name].device)],
                scheme,
                [self.captions[name][number] for number in numbers],
            )
            for name, words in self.words.items()
        }
        fewer = self._scheme.contexts - scheme.contexts
        return encoder(prompts, [self._ends[number] - fewer for number in numbers])


def _parameter(value: Tensor, trained: bool) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=trained)
