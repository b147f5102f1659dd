"""Where the words of a prompt stand among its tokens: the sets T(P) and T(P_a).

Positions are found in the token stream a prompt really became, never counted from its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def token_set(tokens: Sequence[Token], words: Iterable[Sequence[int]]) -> TokenSet:
    """Return the set of the tokens of some words of a prompt: T(P), of the subject's words.

    Args:
        tokens: the prompt's tokens in order.
        words: the positions of each word's tokens.
    """
    return TokenSet(
        tuple(position for position, _ in tokens), tuple(sorted({place for word in words for place in word}))
    )


def without(tokens: TokenSet) -> TokenSet:
    """Return the set of all other tokens of the prompt: T(P_a), from the auxiliary noun's."""
    return TokenSet(tokens.prompt, tuple(sorted(set(tokens.prompt) - set(tokens.selected))))
