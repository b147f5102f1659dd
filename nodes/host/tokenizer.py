"""Teach a CLIP's tokenizer the concept: every text encode, the stock one included, then reads V* as "V* <noun>"."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from torch import Tensor

from ...dci_core.concept.concept import Concept, ConceptInfo
from ...dci_core.errors import UserInputError
from ...dci_core.families import TEXT_ENCODERS
from ...dci_core.prompt.plurals import plural_of
from ...dci_core.prompt.tokens import Token, prompt_tokens
from ...dci_core.prompt.words import NOUN_MARK, PLURAL, add_class_noun, placeholder_pattern, with_marked_nouns


class NounId(int):
    """A vocabulary id that remembers it is of a concept's noun: the auxiliary noun, or in a marked prompt the class noun."""


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


def clip_that_knows(clip: Any, concepts: Sequence[KnownConcept]) -> Any:
    """Return a clone of the CLIP that knows further concepts; without any, the CLIP itself."""
    return _clip_knowing(clip, (*known_concepts(clip), *concepts)) if concepts else clip


def clip_with_nouns_for(clip: Any, nouns: Sequence[tuple[KnownConcept, str]]) -> Any:
    """Return a clone of the CLIP that reads concepts' placeholders as plain nouns, marking their tokens, and adds none to them."""
    replaced = [known for known, _ in nouns]
    others = tuple(k for k in known_concepts(clip) if all(k is not known for known in replaced))
    words = {known.info.placeholder: noun for known, noun in nouns}
    words |= {placeholder + PLURAL: plural_of(noun) for placeholder, noun in words.items()}
    return _clip_knowing(clip, others, _marked_ids(clip, words))


def noun_positions(
    clip: Any, text: str, known: KnownConcept, rows: Mapping[str, Sequence[Token]]
) -> dict[str, tuple[int, ...]]:
    """Return where the nouns that belong to a concept's placeholder stand in a prompt, per text encoder.

    The prompt is tokenized again with these words marked; where that does not give the same tokens, no position is returned.

    Args:
        clip: a CLIP that knows the concept.
        text: the prompt.
        known: the concept.
        rows: the prompt's real tokens, see ``real_tokens``.
    """
    concepts = tuple(replace(each, add_class_noun=False) for each in known_concepts(clip))
    placeholders = [each.info.placeholder for each in concepts]
    marked, words = with_marked_nouns(text, known.info.placeholder, known.info.class_noun, placeholders)
    ids = _marked_ids(clip, {word + NOUN_MARK: word for word in words})
    _, found = real_tokens(_clip_knowing(clip, concepts, ids), marked)
    return {
        name: tuple(position for position, token in row if isinstance(token, NounId)) if _same(row, rows[name]) else ()
        for name, row in found.items()
    }


def _same(row: Sequence[Token], other: Sequence[Token]) -> bool:
    """Tell whether two prompts have the same tokens at the same positions; of vectors, the same objects."""
    return len(row) == len(other) and all(
        place == position and (token == twin if isinstance(token, int) and isinstance(twin, int) else token is twin)
        for (place, token), (position, twin) in zip(row, other)
    )


def _marked_ids(clip: Any, words: Mapping[str, str]) -> dict[str, dict[str, list[Any]]]:
    """Return the marked vocabulary ids of what is read in a word's place, by word and text encoder."""
    return {
        word: {name: [NounId(i) for i in noun_ids(clip, name, read)] for name in tokenizers_of(clip)}
        for word, read in words.items()
    }


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
    clip: Any, concepts: tuple[KnownConcept, ...], nouns: Mapping[str, Mapping[str, list[Any]]] | None = None
) -> Any:
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    clone.tokenizer.dci_concepts = concepts
    for name, tokenizer in tokenizers_of(clip).items():
        replacements: dict[str, Sequence[Any]] = {k.info.placeholder: list(k.vectors[name]) for k in concepts}
        replacements |= {placeholder: ids[name] for placeholder, ids in (nouns or {}).items()}
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
