"""Where the words of a prompt stand among its tokens: the sets T(P) and T(P_a).

Positions are found in the token stream a prompt really became, never counted from its text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UserInputError

Token = tuple[int, Any]
"""A prompt token: its position in the conditioning, and its vocabulary id or vector."""


@dataclass(frozen=True)
class TokenSet:
    """Which text positions a branch looks at.

    Args:
        prompt: positions of all real tokens of the prompt in the conditioning, start, end and padding
            excluded (0-based, ascending).
        selected: T(P), respectively T(P_a): the positions this branch is responsible for, a subset of
            ``prompt``. May be empty (a prompt without context): the branch then claims every pixel alike.

    Raises:
        UserInputError: ``prompt`` is empty or ``selected`` is not part of it.
    """

    prompt: tuple[int, ...]
    selected: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.prompt:
            raise UserInputError("The prompt has no tokens. Write at least one word.")
        strangers = sorted(set(self.selected) - set(self.prompt))
        if strangers:
            raise UserInputError(
                f"Token positions {strangers} are not among the prompt's positions {list(self.prompt)}."
            )


def prompt_tokens(chunks: Sequence[Sequence[tuple[Any, float, int]]]) -> list[Token]:
    """List a tokenized prompt's real tokens with their positions in the conditioning.

    Args:
        chunks: rows of (token, weight, word id) as the encoder gets them; word id 0 marks start, end and
            padding, and every row contributes its full length to the conditioning.
    """
    tokens: list[Token] = []
    offset = 0
    for chunk in chunks:
        tokens += [(offset + column, token) for column, (token, _, word) in enumerate(chunk) if word != 0]
        offset += len(chunk)
    return tokens


def concept_token_set(
    tokens: Sequence[Token],
    is_concept: Callable[[Any], bool],
    noun_ids: Sequence[int],
    noun_positions: Collection[int] = (),
) -> TokenSet:
    """Find T(P): every concept vector, and the class noun that belongs to it.

    Args:
        tokens: the concept prompt's tokens in order.
        is_concept: tells whether a token is one of the concept's vectors.
        noun_ids: the class noun's vocabulary ids; they are found where they follow a vector directly.
        noun_positions: where the noun stands otherwise, behind other words or in plural.
    """
    selected: list[int] = []
    for index, (position, token) in enumerate(tokens):
        if not is_concept(token):
            continue
        selected.append(position)
        following = tokens[index + 1 : index + 1 + len(noun_ids)]
        if len(following) == len(noun_ids) and all(_is_id(t, i) for (_, t), i in zip(following, noun_ids)):
            selected += [place for place, _ in following]
    return TokenSet(tuple(position for position, _ in tokens), tuple(sorted({*selected, *noun_positions})))


def united(sets: Sequence[TokenSet]) -> TokenSet:
    """Return the union of token sets of one prompt: T(P) of a prompt that names several concepts."""
    return TokenSet(sets[0].prompt, tuple(sorted({position for one in sets for position in one.selected})))


def auxiliary_token_set(tokens: Sequence[Token], is_auxiliary_noun: Callable[[Any], bool]) -> TokenSet:
    """Find T(P_a): all tokens of the auxiliary prompt but the inserted auxiliary noun's."""
    prompt = tuple(position for position, _ in tokens)
    return TokenSet(prompt, tuple(position for position, token in tokens if not is_auxiliary_noun(token)))


def _is_id(token: Any, vocabulary_id: int) -> bool:
    return isinstance(token, int) and token == vocabulary_id
