"""Read off a prompt what it asks for beside its subject, and off a judge's reading how much of it pictures show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from demo_world.judge import Reading
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUN_OF, NOUNS, PHOTO, STYLES

PLAIN_BACKDROP = "plain backdrop"  # what the empty context is called


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for beside its subject.

    Args:
        context: a phrase of CONTEXTS; "" where none is named.
        second_noun: a key of NOUNS, or None.
        style: a phrase of STYLES; PHOTO where none is named.
        colour: of the subject, a key of COLOURS; "" where none is named.
    """

    context: str = ""
    second_noun: str | None = None
    style: str = PHOTO
    colour: str = ""


def asked_of(prompt: str, subject: str) -> Asked:
    """Find the words of the demo world in a prompt; words it does not know ask for nothing.

    Of several contexts one is read, the longest, as a picture has one; a colour is read where captions have it, between
    the style and the subject's noun, or V* where the noun is left out.

    Args:
        prompt: such as "line art of a blue V* bear with a guitar on a beach", in any case, with or without commas.
        subject: a key of NOUN_OF. "With" another of its own class noun is no companion: the judge could not tell them apart.

    Raises:
        ValueError: there is no such subject.
    """
    if subject not in NOUN_OF:
        raise ValueError(f"There is no subject {subject!r}; choose one of {list(NOUN_OF)}.")
    text = f" {' '.join(re.sub(r'[^a-z* ]', ' ', prompt.lower()).split())} "
    context = _longest(CONTEXTS, text)
    if context:
        text = text.replace(f" {context} ", " ")
    style = _longest(STYLES, text) or PHOTO
    companions = [noun for noun in re.findall(r" with an? (\w+)", text) if noun in NOUNS and noun != NOUN_OF[subject]]
    return Asked(context, companions[0] if companions else None, style, _colour(text, style, NOUN_OF[subject]))


def shown_of(asked: Asked, reading: Reading) -> dict[str, Tensor]:
    """Look up what was asked for in what a judge saw.

    Being a photo in the subject's own colours is no wish, for pictures are that unless asked otherwise; a plain backdrop is
    one where the prompt asks for nothing else.

    Returns:
        what was asked for, in words, and its probability in each picture, [B], 0 … 1; at least one entry.
    """
    shown: dict[str, Tensor] = {}
    if asked.second_noun is not None:
        shown[asked.second_noun] = reading.second_noun[:, 1 + tuple(NOUNS).index(asked.second_noun)]
    if asked.style != PHOTO:
        shown[asked.style.removesuffix(" of")] = reading.style[:, STYLES.index(asked.style)]
    if asked.colour:
        shown[asked.colour] = reading.colour[:, tuple(COLOURS).index(asked.colour)]
    if asked.context or not shown:
        shown[asked.context or PLAIN_BACKDROP] = reading.context[:, CONTEXTS.index(asked.context)]
    return shown


def all_shown(shown: Mapping[str, Tensor]) -> Tensor:
    """Obedience: the probability that pictures show all that was asked for, the product over it, [B], 0 … 1."""
    return torch.stack(list(shown.values())).prod(dim=0)


def _colour(text: str, style: str, noun: str) -> str:
    """Return the first colour between the style, or else the beginning, and the noun; "" for none."""
    _, named, rest = text.partition(f" {style} ")
    words = (rest if named else text).partition(" with ")[0].split()
    end = next((words.index(word) for word in (noun, "v*") if word in words), 0)
    return next((word for word in words[:end] if word in COLOURS), "")


def _longest(phrases: tuple[str, ...], text: str) -> str:
    """Return the longest of the phrases that a text, with a blank at both ends, has as whole words; "" for none."""
    found = [phrase for phrase in phrases if phrase and f" {phrase} " in text]
    return max(found, key=len, default="")
