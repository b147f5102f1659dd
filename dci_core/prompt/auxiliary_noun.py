"""Choose an auxiliary noun that is likely in the given context (METHOD section 4), by the text encoder at hand.

It comes from a list of common nouns and is never the class noun or a part of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

_NOUNS_IN_ORDER = """
    dog cat horse bird car chair cup ball tree house person boat book bag shoe flower bear fish frog turtle
    butterfly apple mushroom pumpkin robot umbrella rabbit cow duck lion bicycle train airplane truck table lamp
    bottle clock guitar hat doll statue cake vase box bench stone tent kite phone
"""
COMMON_NOUNS = tuple(_NOUNS_IN_ORDER.split())
NEUTRAL_CONTEXT = "a photo"
NEUTRAL_PROMPT = "a photo of a {}"


@dataclass(frozen=True)
class NounChoice:
    """A noun and why it was chosen.

    Args:
        noun: the best one.
        ranking: the best few with their scores, best first; empty when the prompt gave nothing to go by.
    """

    noun: str
    ranking: tuple[tuple[str, float], ...] = ()

    def text(self) -> str:
        """Return one line for the user."""
        if not self.ranking:
            return f"auxiliary noun {self.noun}: the prompt has no scene to choose by"
        best = ", ".join(f"{noun} {score:+.3f}" for noun, score in self.ranking)
        return f"auxiliary noun {self.noun}, fits the scene best: {best}"


def first_unrelated_noun(class_noun: str) -> str:
    """Return the first of ``COMMON_NOUNS`` that is no part of the class noun, see ``unrelated_nouns``."""
    return unrelated_nouns(class_noun)[0]


def unrelated_nouns(text: str) -> list[str]:
    """Return those of ``COMMON_NOUNS`` that are no word of a text nor its beginning or end, in singular or plural.

    A teddybear leaves out "bear", sailboats "boat", and a caterpillar "cat" as well.
    """
    words = re.findall(r"\w+", text.lower())
    return [
        noun
        for noun in COMMON_NOUNS
        if not any(word.startswith(noun) or word.endswith((noun, f"{noun}s", f"{noun}es")) for word in words)
    ]


def context_fit(prompts: Tensor, context: Tensor, neutral_prompts: Tensor, neutral_context: Tensor) -> Tensor:
    """Return how well each noun fits a context, against how it fits any: cos(p_n, c) - cos(p⁰_n, c⁰).

    A noun that belongs into the context moves the text's vector less than one that does not; the second term takes out
    that some nouns move every text more than others.

    Args:
        prompts: vectors of the auxiliary prompts, one per noun, [N, D].
        context: vector of the prompt without any noun, [D].
        neutral_prompts: vectors of the nouns in the neutral prompt, [N, D].
        neutral_context: vector of the neutral context, [D].

    Returns:
        [N], each value in -2 … 2; 0 is as fitting as anywhere.
    """
    fit = F.cosine_similarity(prompts, context[None], dim=-1)
    usual = F.cosine_similarity(neutral_prompts, neutral_context[None], dim=-1)
    return fit - usual


def best_noun(nouns: Sequence[str], scores: Tensor, shown: int = 3) -> NounChoice:
    """Return the noun with the highest score; of equals the first in the list.

    Args:
        nouns: N candidates, at least one.
        scores: [N].
        shown: length of the ranking.
    """
    order = sorted(range(len(nouns)), key=lambda index: (-scores[index].item(), index))
    return NounChoice(nouns[order[0]], tuple((nouns[index], scores[index].item()) for index in order[:shown]))
