"""Teach a CLIP's tokenizer the concept: every text encode, the stock one included, then reads V* as "V* <noun>"."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...dci_core.concept.concept import Concept, ConceptInfo
from ...dci_core.errors import UserInputError
from ...dci_core.families import TEXT_ENCODERS
from ...dci_core.prompt.marks import CLOSED, OPENED, Mark, marked_indices
from ...dci_core.prompt.tokens import Token, prompt_tokens
from ...dci_core.prompt.words import add_class_noun, placeholder_pattern


@dataclass(frozen=True)
class _WordTokenizer:
    """Stands in for a transformers tokenizer: placeholders become given tokens, all else its own ids."""

    plain: Any
    replacements: Mapping[str, Sequence[Any]]

    def __call__(self, text: str, *args: Any, **kwargs: Any) -> dict[str, list[Any]]:
        pattern = placeholder_pattern(list(self.replacements))
        by_name = {name.lower(): tokens for name, tokens in self.replacements.items()}
        empty = self.plain("")["input_ids"]
        ids, place = [], 0
        for match in pattern.finditer(text):
            ids += self._ids(text[place : match.start()])
            ids += by_name[match.group().lower()]
            place = match.end()
        ids += self._ids(text[place:])
        return {"input_ids": [*empty[:1], *ids, *empty[1:]]}

    def _ids(self, text: str) -> list[int]:
        return self.plain(text)["input_ids"][1:-1] if text.strip() else []

    def __getattr__(self, name: str) -> Any:
        if name in ("plain", "replacements"):
            raise AttributeError(name)
        return getattr(self.plain, name)


@dataclass(frozen=True)
class KnownConcept:
    """A concept as a CLIP knows it.

    Args:
        info: its metadata.
        vectors: per text encoder, one tensor per token.
        add_class_noun: whether the class noun is added where a prompt leaves it out.
    """

    info: ConceptInfo
    vectors: Mapping[str, tuple[Tensor, ...]]
    add_class_noun: bool = True


class _AddsNouns:
    """Mixed into a text encoder's tokenizer: completes a text before the host splits it by its emphasis."""

    dci_concepts: tuple[KnownConcept, ...]

    def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> Any:
        host: Any = super()
        return host.tokenize_with_weights(with_class_nouns(text, self.dci_concepts), *args, **kwargs)


@cache
def _adding_nouns(kind: type) -> type:
    """Return the class of a text encoder's tokenizer with ``_AddsNouns`` mixed in, once however often it is asked for."""
    return kind if issubclass(kind, _AddsNouns) else type(kind.__name__, (_AddsNouns, kind), {})


def tokenizers_of(clip: Any) -> dict[str, Any]:
    """Return the CLIP's tokenizers by text encoder name."""
    return {name: getattr(clip.tokenizer, name) for name in TEXT_ENCODERS if hasattr(clip.tokenizer, name)}


def embedding_widths(clip: Any) -> dict[str, int]:
    """Return the width of the CLIP's word embeddings by text encoder name."""
    return {name: _embedding_width(clip, name, tokenizer) for name, tokenizer in tokenizers_of(clip).items()}


def _embedding_width(clip: Any, name: str, tokenizer: Any) -> int:
    encoder = getattr(clip.cond_stage_model, name, None)
    if encoder is None:
        return int(tokenizer.embedding_size)
    return int(encoder.transformer.get_input_embeddings().weight.shape[1])


def known_concepts(clip: Any) -> tuple[KnownConcept, ...]:
    """Return the concepts a CLIP knows, in the order they were applied."""
    return getattr(clip.tokenizer, "dci_concepts", ())


def with_class_nouns(text: str, concepts: Sequence[KnownConcept]) -> str:
    """Return a text as a CLIP that knows the concepts reads it: with the class nouns that it leaves out."""
    placeholders = [known.info.placeholder for known in concepts]
    for known in concepts:
        if known.add_class_noun:
            text = add_class_noun(text, known.info.placeholder, known.info.class_noun, placeholders)
    return text


def clip_with_concept(clip: Any, concept: Concept, add_class_noun: bool = True) -> Any:
    """Return a clone of the CLIP that also knows the concept.

    Args:
        clip: a host CLIP.
        concept: to be known.
        add_class_noun: whether "V*" alone is read as "V* <noun>".

    Raises:
        UserInputError: the CLIP already knows another concept by the same placeholder.
    """
    taken = [k.info.placeholder for k in known_concepts(clip)]
    if concept.info.placeholder.lower() in (name.lower() for name in taken):
        raise UserInputError(
            f"This CLIP already knows a concept called {concept.info.placeholder}. Give the second one another "
            "placeholder on its Apply Concept, for example W*."
        )
    vectors = {name: tuple(rows.clone().unbind()) for name, rows in concept.tokens.items()}
    return _clip_knowing(clip, (*known_concepts(clip), KnownConcept(concept.info, vectors, add_class_noun)))


def marked_positions(
    clip: Any, marked_text: str, rows: Mapping[str, Sequence[Token]]
) -> dict[str, list[tuple[int, ...]]] | None:
    """Return where the tokens of marked words of a prompt stand, per text encoder and word.

    The prompt is tokenized again with the marks, which leave its tokens what they are, wherever a chunk ends.

    Args:
        clip: a host CLIP.
        marked_text: the prompt with marks around words, complete with the class nouns of its concepts.
        rows: the real tokens of the prompt without marks, see ``real_tokens``.

    Returns:
        None where the marks do change what is read, because a marked word is a part of another.
    """
    concepts = tuple(replace(each, add_class_noun=False) for each in known_concepts(clip))
    marks = {OPENED: [Mark(True)], CLOSED: [Mark(False)]}
    _, found = real_tokens(_clip_knowing(clip, concepts, marks), marked_text)
    positions = {}
    for encoder, row in found.items():
        plain, words = marked_indices([token for _, token in row])
        if not _same(plain, [token for _, token in rows[encoder]]):
            return None
        positions[encoder] = [tuple(rows[encoder][index][0] for index in word) for word in words]
    return positions


def _same(tokens: Sequence[Any], others: Sequence[Any]) -> bool:
    """Tell whether two prompts have the same tokens; vectors of files are read anew each time."""
    return len(tokens) == len(others) and all(
        token == other if isinstance(token, int) and isinstance(other, int) else _same_vector(token, other)
        for token, other in zip(tokens, others)
    )


def _same_vector(token: Any, other: Any) -> bool:
    return token is other or (isinstance(token, Tensor) and isinstance(other, Tensor) and torch.equal(token, other))


def noun_ids(clip: Any, encoder: str, noun: str) -> list[int]:
    """Return a noun's vocabulary ids, without start and end."""
    return list(_word_tokenizer(tokenizers_of(clip)[encoder])(noun)["input_ids"][1:-1])


def real_tokens(clip: Any, text: str) -> tuple[dict[str, Any], dict[str, list[Token]]]:
    """Tokenize a prompt.

    Returns:
        What the CLIP encodes, and per text encoder the prompt's real tokens with their positions.
    """
    with_words = clip.tokenize(text, return_word_ids=True)
    tokens = {name: prompt_tokens(chunks) for name, chunks in with_words.items()}
    plain = {name: [[(token, weight) for token, weight, _ in row] for row in rows] for name, rows in with_words.items()}
    return plain, tokens


def is_vector_of(known: KnownConcept) -> Callable[[Any], bool]:
    """Return a test for the concept's own vectors."""
    own = {id(row) for rows in known.vectors.values() for row in rows}
    return lambda token: id(token) in own


def _clip_knowing(
    clip: Any, concepts: tuple[KnownConcept, ...], others: Mapping[str, Sequence[Any]] | None = None
) -> Any:
    """Return a clone of the CLIP that reads concepts' placeholders as their vectors, and other words as given tokens."""
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    clone.tokenizer.dci_concepts = concepts
    for name, tokenizer in tokenizers_of(clip).items():
        replacements: dict[str, Sequence[Any]] = {k.info.placeholder: list(k.vectors[name]) for k in concepts}
        replacements |= others or {}
        own = copy.copy(tokenizer)
        kind: Any = type(tokenizer)  # to mypy a type[Any] is not hashable
        own.__class__ = _adding_nouns(kind)
        own.dci_concepts = concepts
        own.tokenizer = _WordTokenizer(_word_tokenizer(tokenizer), replacements)
        setattr(clone.tokenizer, name, own)
    return clone


def _word_tokenizer(tokenizer: Any) -> Any:
    """Return the transformers tokenizer inside the host's, without concepts."""
    words = tokenizer.tokenizer
    return words.plain if isinstance(words, _WordTokenizer) else words
