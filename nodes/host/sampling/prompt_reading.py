"""A prompt as both branches read it: their texts, and which tokens each of them answers for.

The subject is a concept that the CLIP knows, named by its placeholder or its file, or any words that the user says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ....dci_core.errors import UserInputError
from ....dci_core.prompt.auxiliary_noun import NounChoice
from ....dci_core.prompt.marks import letters_alone, marked
from ....dci_core.prompt.pairs import (
    PromptPair,
    choose_auxiliary_nouns,
    merge_concept_phrases,
    other_noun_warnings,
    pair_prompts,
    pair_prompts_of_several,
    prompt_warnings,
)
from ....dci_core.prompt.phrase import Span
from ....dci_core.prompt.subject import read_subject
from ....dci_core.prompt.subject_prompt import NOUN_PLACE, SubjectPrompt
from ....dci_core.prompt.tokens import TokenSet, token_set, without
from ....dci_core.prompt.words import add_class_noun, concept_words, placeholder_pattern, replace_placeholder
from ..carried import SpokenConcept, mark_of
from ..tokenizer import KnownConcept, is_vector_of, known_concepts, marked_positions, real_tokens, with_class_nouns
from .auxiliary_noun import choose_noun
from .embeddings import NamedFiles, advice_on_names, check_embeddings, named_files

Words = list[tuple[str, str]]
"""Placeholder and class noun of each concept."""


@dataclass(frozen=True)
class BranchText:
    """What one branch reads.

    Args:
        text: as one would type it.
        chunks: its tokens, as the host encodes them.
        tokens: T(P) or T(P_a).
    """

    text: str
    chunks: Mapping[str, Any]
    tokens: TokenSet


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt as both branches read it.

    Args:
        clip: that encodes both.
        concept: P.
        auxiliary: P_a.
        choices: how "auto" chose its auxiliary nouns.
        warnings: on what is read otherwise than it seems to be meant.
        class_noun_added: whether a class noun was added to the prompt that was given.
        spoken: the concepts of the CLIP that the prompt speaks of.
    """

    clip: Any
    concept: BranchText
    auxiliary: BranchText
    choices: tuple[NounChoice, ...] = ()
    warnings: tuple[str, ...] = ()
    class_noun_added: bool = False
    spoken: tuple[SpokenConcept, ...] = ()


def read_prompt(
    clip: Any, prompt: str, auxiliary_noun: str, entire_prompt: bool = True, class_noun: str = "", subject: str = ""
) -> ReadPrompt:
    """Read a prompt for both branches.

    Args:
        clip: a host CLIP.
        prompt: with the subject in it; class nouns that it leaves out behind a concept's placeholder are added.
        auxiliary_noun: a common noun, or "auto"; for several concepts one for each, with commas between them.
        entire_prompt: False is the paper's "w/o entire prompt" ablation.
        class_noun: the plain word for the subject, where neither a concept nor the words say it; "" is none.
        subject: the words of the prompt that name it; "" are the concepts that the CLIP knows.

    Raises:
        UserInputError: no subject, or a prompt or noun that cannot be used.
    """
    if subject.strip():
        return _read_words(clip, prompt, auxiliary_noun, entire_prompt, class_noun, subject)
    concepts = _spoken_concepts(clip, prompt)
    spoken = [(known.info.placeholder, known.info.class_noun) for known in concepts]
    files = NamedFiles() if spoken else named_files(clip, prompt, class_noun)
    words = spoken or list(files.words) or _words_of_last_concept(clip, prompt)
    read = files.completed(with_class_nouns(prompt, known_concepts(clip)))
    result = _read_concepts(clip, read, words, auxiliary_noun, entire_prompt)
    warnings = [*result.warnings, *(text for word in words for text in other_noun_warnings(prompt, *word))]
    if class_noun.strip() and not files.took_class_noun:
        warnings.append(f"class_noun {class_noun.strip()!r} is not used: the concept has its own")
    return replace(result, warnings=tuple(warnings), class_noun_added=read != prompt, spoken=_marked(concepts))


def _read_words(
    clip: Any, prompt: str, auxiliary_noun: str, entire_prompt: bool, class_noun: str, subject: str
) -> ReadPrompt:
    """Read a prompt whose subject is named by any words."""
    given = read_subject(subject, class_noun)
    check_embeddings(clip, given.embeddings)
    files = named_files(clip, given.text)
    concepts = [(each.info.placeholder, each.info.class_noun) for each in known_concepts(clip) if each.add_class_noun]
    known = given.completed([*concepts, *files.words])
    read = with_class_nouns(prompt, known_concepts(clip))
    for name, noun in files.words:
        if name in given.parts:
            read = add_class_noun(read, name, noun)
    spoken = SubjectPrompt(read, known)
    choices: list[NounChoice] = []

    def choose(_: int, taken: str) -> str:
        choices.append(choose_noun(clip, spoken.template, NOUN_PLACE, " ".join([known.text, *known.nouns, taken])))
        return choices[-1].noun

    (noun,) = choose_auxiliary_nouns(
        auxiliary_noun, [(known.text, known.class_noun)], choose if entire_prompt else None
    )
    pair = spoken.pair(noun, entire_prompt)
    words = spoken.words if entire_prompt else SubjectPrompt(pair.concept, known).words
    concept = _concept_text(clip, pair.concept, words, known.text)
    auxiliary = _auxiliary_text(clip, pair, {NOUN_PLACE: noun} if entire_prompt else {})
    warnings = spoken.warnings(noun if entire_prompt else "")
    marks = _marked(_spoken_concepts(clip, prompt))
    return ReadPrompt(clip, concept, auxiliary, tuple(choices), tuple(warnings), read != prompt, marks)


def _read_concepts(clip: Any, prompt: str, words: Words, auxiliary_noun: str, entire_prompt: bool) -> ReadPrompt:
    """Read a prompt, complete with class nouns, that names concepts by their placeholders."""
    choices: list[NounChoice] = []

    def choose(number: int, taken: str) -> str:
        choices.append(choose_noun(clip, _template(prompt, words, number), words[number][0], taken))
        return choices[-1].noun

    nouns = choose_auxiliary_nouns(auxiliary_noun, words, choose if entire_prompt else None)
    pair = _prompt_pair(prompt, words, nouns, entire_prompt)
    concept = _concept_text(clip, pair.concept, _words_of(pair.concept, words), " and ".join(name for name, _ in words))
    placed = {placeholder: noun for (placeholder, _), noun in zip(words, nouns)} if entire_prompt else {}
    auxiliary = _auxiliary_text(clip, pair, placed)
    warnings = prompt_warnings(prompt, pair, words, nouns if entire_prompt else [])
    return ReadPrompt(clip, concept, auxiliary, tuple(choices), tuple(warnings))


def _concept_text(clip: Any, text: str, words: Sequence[Span], subject: str) -> BranchText:
    """Return P with T(P).

    A bracket or mark at a word's edge may be one token with what stands beside it; it is then left to the context.
    """
    chunks, rows = real_tokens(clip, text)
    positions = marked_positions(clip, marked(text, words), rows)
    if positions is None:
        positions = marked_positions(clip, marked(text, letters_alone(text, words)), rows)
    if positions is None or not all(found and all(found) for found in positions.values()):
        raise UserInputError(
            f"{subject} stands in the prompt {text!r}, but not as a word of its own: the tokenizer took it for part "
            "of something else. Write it between spaces."
        )
    return BranchText(text, chunks, _agreed({name: token_set(rows[name], found) for name, found in positions.items()}))


def _auxiliary_text(clip: Any, pair: PromptPair, nouns: Mapping[str, str]) -> BranchText:
    """Return P_a with T(P_a).

    Raises:
        UserInputError: an auxiliary noun is a concept's placeholder, or is not read as words.
    """
    spoken = [name for noun in nouns.values() for name in _placeholders_in(clip, noun)]
    for known in () if spoken else (pair, pair.with_spaces(nouns)):
        chunks, rows = real_tokens(clip, known.auxiliary)
        positions = marked_positions(clip, known.marked_auxiliary(nouns), rows)
        if positions is not None and not (nouns and not all(found and all(found) for found in positions.values())):
            sets = {name: without(token_set(rows[name], found)) for name, found in positions.items()}
            return BranchText(known.auxiliary, chunks, _agreed(sets))
    raise UserInputError(
        f"The auxiliary noun {' and '.join(map(repr, nouns.values()))} does not occur in the auxiliary prompt {pair.auxiliary!r}: "
        f"{'it names a concept' if spoken else 'the tokenizer knows no word for it'}. Write a common noun in plain letters, for "
        'example "dog".'
    )


def _placeholders_in(clip: Any, text: str) -> list[str]:
    names = [known.info.placeholder for known in known_concepts(clip)]
    return [name for name in names if placeholder_pattern([name]).search(text)]


def _agreed(sets: Mapping[str, TokenSet]) -> TokenSet:
    first, *others = sets.values()
    if any(other != first for other in others):
        raise UserInputError(
            "The model's two text encoders split the prompt differently, so token positions are ambiguous. "
            "Shorten the prompt or leave out embeddings that exist for one encoder only."
        )
    return first


def _words_of(prompt: str, words: Words) -> list[Span]:
    """Return where the words of all concepts stand."""
    names = [placeholder for placeholder, _ in words]
    return [span for word in words for span in concept_words(prompt, *word, names)]


def _spoken_concepts(clip: Any, prompt: str) -> list[KnownConcept]:
    """Return the concepts that a prompt names, in its order."""
    concepts = known_concepts(clip)
    places = {}
    for number, known in enumerate(concepts):
        match = placeholder_pattern([known.info.placeholder]).search(prompt)
        if match is not None and _is_read(clip, prompt, known):
            places[number] = match.start()
    return [concepts[number] for number in sorted(places, key=places.__getitem__)]


def _marked(concepts: Sequence[KnownConcept]) -> tuple[SpokenConcept, ...]:
    return tuple(
        SpokenConcept(f"{known.info.placeholder} {known.info.class_noun}", mark_of(known.vectors)) for known in concepts
    )


def _is_read(clip: Any, prompt: str, known: KnownConcept) -> bool:
    """Tell whether a prompt, tokenized, holds any vector of the concept."""
    _, tokens = real_tokens(clip, prompt)
    own = is_vector_of(known)
    return any(own(token) for rows in tokens.values() for _, token in rows)


def _words_of_last_concept(clip: Any, prompt: str) -> Words:
    """Return the concept to speak of in errors on a prompt that names none."""
    if known_concepts(clip):
        info = known_concepts(clip)[-1].info
        return [(info.placeholder, info.class_noun)]
    raise UserInputError(
        "This CLIP knows no concept. Connect the CLIP that Apply Concept returns; or, for a LoRA, an embedding or a checkpoint that "
        f'you already have, write in subject the words of the prompt that name it, such as "sks dog".{advice_on_names(clip, prompt)}'
    )


def _prompt_pair(prompt: str, words: Words, nouns: list[str], entire_prompt: bool) -> PromptPair:
    if len(words) == 1:
        return pair_prompts(prompt, *words[0], nouns[0], entire_prompt)
    if not entire_prompt:
        names = " and ".join(placeholder for placeholder, _ in words)
        raise UserInputError(
            f"The prompt names {names}. The ablation without the entire prompt works on one concept: turn entire_prompt on, or keep one."
        )
    return pair_prompts_of_several(prompt, words, nouns)


def _template(prompt: str, words: Words, number: int) -> str:
    """Return the prompt with one concept's placeholder left, the other concepts as their class nouns."""
    template = merge_concept_phrases(prompt, words)
    for other, (placeholder, class_noun) in enumerate(words):
        if other != number:
            template = replace_placeholder(template, placeholder, class_noun)
    return template
