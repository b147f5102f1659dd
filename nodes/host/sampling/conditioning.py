"""The positive conditioning that carries its auxiliary text along.

It travels inside the conditioning's own dictionary, so areas, masks, ControlNets and hooks that are
wired to the positive act on the auxiliary text too.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.prompt.auxiliary_noun import NounChoice
from ....dci_core.prompt.pairs import (
    AUTO,
    PromptPair,
    choose_auxiliary_nouns,
    merge_concept_phrases,
    pair_prompts,
    pair_prompts_of_several,
    prompt_warnings,
)
from ....dci_core.prompt.tokens import Token, TokenSet, auxiliary_token_set, concept_token_set, united
from ....dci_core.prompt.words import placeholder_pattern, replace_placeholder
from ..tokenizer import (
    KnownConcept,
    NounId,
    clip_with_nouns_for,
    is_vector_of,
    known_concepts,
    noun_ids,
    noun_positions,
    real_tokens,
    with_class_nouns,
)
from .auxiliary_noun import choose_noun
from .embeddings import Reading, advice_on_names, read_embeddings

CARRIED_KEY = "dci"
TokenRows = Mapping[str, list[Token]]
"""A prompt's real tokens by text encoder."""


@dataclass(frozen=True)
class AuxiliaryText:
    """What a positive conditioning carries.

    Args:
        concept_cross_attn: the encoded prompt it was made for, [1, K', D], to notice what became of it.
        cross_attn: the encoded auxiliary prompt, [1, K, D].
        pooled_output: its pooled vector, [1, D'] or None.
        concept_tokens: T(P) within the conditioning.
        auxiliary_tokens: T(P_a) within ``cross_attn``.
    """

    concept_cross_attn: Tensor
    cross_attn: Tensor
    pooled_output: Tensor | None
    concept_tokens: TokenSet
    auxiliary_tokens: TokenSet

    def swapped_into(self, cond: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of a sampling condition with the auxiliary text in place of its own.

        Raises:
            UserInputError: the condition's own text was changed after it was encoded.
        """
        twin = {key: value for key, value in cond.items() if key != CARRIED_KEY}
        text = torch.cat([self.cross_attn, self._appended_to(cond["cross_attn"])], dim=1)
        twin |= {"cross_attn": text, "uuid": uuid.uuid4(), "model_conds": dict(cond["model_conds"])}
        if self.pooled_output is not None:
            twin["pooled_output"] = self.pooled_output
        return twin

    def _appended_to(self, text: Tensor) -> Tensor:
        own = self.concept_cross_attn.to(text)
        length = own.shape[1]
        if not torch.equal(text[:, :length], own):
            raise UserInputError(
                "The positive's text was changed after AuxPromptBuilder, by ConditioningAverage, ConditioningMultiply or a node "
                "like them. DCI cannot do the same to the auxiliary prompt: take that node out, or set active_fraction to 0. "
                "ConditioningConcat and ConditioningCombine work."
            )
        return text[:, length:].to(self.cross_attn)


@dataclass(frozen=True)
class BuiltConditioning:
    """A host CONDITIONING and how it was made.

    Args:
        conditioning: for a sampler.
        concept_text: P as it was read.
        auxiliary_text: P_a.
        choices: how "auto" chose its auxiliary nouns.
        warnings: on what is read otherwise than it seems to be meant.
        class_noun_added: whether a class noun was added to the prompt that was given.
    """

    conditioning: list[Any]
    concept_text: str
    auxiliary_text: str
    choices: tuple[NounChoice, ...] = ()
    warnings: tuple[str, ...] = ()
    class_noun_added: bool = False

    def remarks(self) -> list[str]:
        """Return what the user should be told of it; the prompt, which may hold anything, last."""
        read = [f"read as: {self.concept_text}"] if self.class_noun_added else []
        return [*(choice.text() for choice in self.choices), *self.warnings, *read]


def build_conditioning(
    clip: Any,
    prompt: str,
    auxiliary_noun: str = AUTO,
    entire_prompt: bool = True,
    class_noun: str = "",
) -> BuiltConditioning:
    """Encode a prompt and its auxiliary prompt into one positive conditioning.

    Args:
        clip: a CLIP that knows a concept.
        prompt: with the concept's placeholder in it, or several concepts' placeholders, or the names of concept files among
            the embeddings; class nouns that it leaves out are added, unless the CLIP was told not to.
        auxiliary_noun: a common noun, or "auto"; for several concepts one for each, with commas between them.
        entire_prompt: False is the paper's "w/o entire prompt" ablation.
        class_noun: of an embedding that is no concept file; "" is none.

    Raises:
        UserInputError: no concept, or a prompt or noun that cannot be used.
    """
    reading = Reading(clip, prompt, {}) if _spoken_concepts(clip, prompt) else read_embeddings(clip, prompt, class_noun)
    try:
        built = _build(reading.clip, reading.prompt, auxiliary_noun, entire_prompt)
    except UserInputError as error:
        if not reading.files:
            raise
        raise UserInputError(reading.as_written(str(error))) from error
    warnings = [reading.as_written(text) for text in built.warnings]
    if class_noun.strip() and not reading.took_class_noun:
        warnings.append(f"class_noun {class_noun.strip()!r} is not used: the concept has its own")
    return replace(
        built,
        concept_text=reading.as_written(built.concept_text),
        auxiliary_text=reading.as_written(built.auxiliary_text),
        warnings=tuple(warnings),
    )


def _build(clip: Any, prompt: str, auxiliary_noun: str, entire_prompt: bool) -> BuiltConditioning:
    """Return the conditioning of a prompt that names concepts by their placeholders."""
    spoken = _spoken_concepts(clip, prompt) or _last_concept(clip, prompt)
    read = with_class_nouns(prompt, known_concepts(clip))
    words = [(known.info.placeholder, known.info.class_noun) for known in spoken]
    choices: list[NounChoice] = []

    def choose(number: int, taken: str) -> str:
        choices.append(choose_noun(clip, _template(read, words, number), words[number][0], taken))
        return choices[-1].noun

    nouns = choose_auxiliary_nouns(auxiliary_noun, words, choose if entire_prompt else None)
    pair = _prompt_pair(read, words, nouns, entire_prompt)
    concept_ids, concept_rows = real_tokens(clip, pair.concept)
    concept_sets = _concept_sets(clip, concept_rows, spoken, pair.concept)
    reader = clip_with_nouns_for(clip, list(zip(spoken, nouns))) if entire_prompt else clip
    auxiliary_ids, auxiliary_rows = real_tokens(reader, pair.auxiliary_template)
    if entire_prompt:
        _check_noun_is_read(auxiliary_rows, auxiliary_noun, pair.auxiliary)
    auxiliary_sets = {name: auxiliary_token_set(rows, _is_auxiliary_noun) for name, rows in auxiliary_rows.items()}
    conditioning = clip.encode_from_tokens_scheduled(concept_ids)
    auxiliary = reader.encode_from_tokens_scheduled(auxiliary_ids)
    carried = []
    for (cond, options), (other, other_options) in zip(conditioning, auxiliary, strict=True):
        pooled = other_options.get("pooled_output")
        text = AuxiliaryText(cond, other, pooled, _agreed(concept_sets), _agreed(auxiliary_sets))
        carried.append([cond, {**options, CARRIED_KEY: text}])
    warnings = prompt_warnings(prompt, pair, words, nouns if entire_prompt else [])
    return BuiltConditioning(carried, pair.concept, pair.auxiliary, tuple(choices), tuple(warnings), read != prompt)


def _concept_sets(clip: Any, rows: TokenRows, spoken: list[KnownConcept], prompt: str) -> dict[str, TokenSet]:
    """Return T(P) by text encoder."""
    for known in spoken:
        if not all(any(map(is_vector_of(known), (t for _, t in row))) for row in rows.values()):
            name, noun = known.info.placeholder, known.info.class_noun
            raise UserInputError(
                f"{name} stands in the prompt {prompt!r}, but not as a word of its own: the tokenizer took it for part "
                f'of something else. Write it between spaces, for example "a {name} {noun} on grass".'
            )
    nouns = {known.info.placeholder: noun_positions(clip, prompt, known, rows) for known in spoken}
    return {
        encoder: united(
            [
                concept_token_set(
                    row,
                    is_vector_of(known),
                    noun_ids(clip, f"clip_{encoder}", known.info.class_noun),
                    nouns[known.info.placeholder][encoder],
                )
                for known in spoken
            ]
        )
        for encoder, row in rows.items()
    }


def _is_auxiliary_noun(token: Any) -> bool:
    return isinstance(token, NounId)


def _check_noun_is_read(rows: TokenRows, auxiliary_noun: str, auxiliary_prompt: str) -> None:
    if not any(_is_auxiliary_noun(token) for _, token in next(iter(rows.values()))):
        raise UserInputError(
            f"The auxiliary noun {auxiliary_noun!r} does not occur in the auxiliary prompt {auxiliary_prompt!r}: "
            'the tokenizer knows no word for it. Write a common noun in plain letters, for example "dog".'
        )


def _spoken_concepts(clip: Any, prompt: str) -> list[KnownConcept]:
    """Return the concepts that a prompt names, in its order."""
    concepts = known_concepts(clip)
    places = {}
    for number, known in enumerate(concepts):
        match = placeholder_pattern([known.info.placeholder]).search(prompt)
        if match is not None and real_tokens_contain(clip, prompt, known):
            places[number] = match.start()
    return [concepts[number] for number in sorted(places, key=places.__getitem__)]


def _last_concept(clip: Any, prompt: str) -> list[KnownConcept]:
    """Return the concept to speak of in errors on a prompt that names none."""
    if known_concepts(clip):
        return [known_concepts(clip)[-1]]
    raise UserInputError(
        f"This CLIP knows no concept. Connect the CLIP that Apply Concept returns.{advice_on_names(clip, prompt)}"
    )


def _prompt_pair(prompt: str, words: list[tuple[str, str]], nouns: list[str], entire_prompt: bool) -> PromptPair:
    if len(words) == 1:
        return pair_prompts(prompt, *words[0], nouns[0], entire_prompt)
    if not entire_prompt:
        names = " and ".join(placeholder for placeholder, _ in words)
        raise UserInputError(
            f"The prompt names {names}. The ablation without the entire prompt works on one concept: turn entire_prompt on, or keep one."
        )
    return pair_prompts_of_several(prompt, words, nouns)


def _template(prompt: str, words: list[tuple[str, str]], number: int) -> str:
    """Return the prompt with one concept's placeholder left, the other concepts as their class nouns."""
    template = merge_concept_phrases(prompt, words)
    for other, (placeholder, class_noun) in enumerate(words):
        if other != number:
            template = replace_placeholder(template, placeholder, class_noun)
    return template


def real_tokens_contain(clip: Any, prompt: str, known: KnownConcept) -> bool:
    """Tell whether a prompt, tokenized, holds any vector of the concept."""
    _, tokens = real_tokens(clip, prompt)
    own = is_vector_of(known)
    return any(own(token) for rows in tokens.values() for _, token in rows)


def _agreed(sets: Mapping[str, TokenSet]) -> TokenSet:
    first, *others = sets.values()
    if any(other != first for other in others):
        raise UserInputError(
            "The model's two text encoders split the prompt differently, so token positions are ambiguous. "
            "Shorten the prompt or leave out embeddings that exist for one encoder only."
        )
    return first
