"""Captions as the host's CLIP token ids, and the part of the vocabulary that the demo model knows."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from comfyui_dci.dci_core.training.ico import CONCEPT_INITIAL_IDS
from torch import Tensor

from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES
from workbench.pack import import_host

LENGTH = 77
START, END = 49406, 49407  # END is also the padding
SPARE_WORDS: tuple[str, ...] = (".", ",", "the", "and")  # likely in prompts, never in captions: rows stay random


@cache
def _host_tokenizer() -> Any:
    import_host()
    from comfy.sd1_clip import SDTokenizer

    return SDTokenizer()


@cache
def word_ids(word: str) -> tuple[int, ...]:
    """Token ids of one word without start, end and padding. CLIP's byte pairs never cross a blank."""
    rows = _host_tokenizer().tokenize_with_weights(word)
    ids = [int(token) for token, _ in rows[0]]
    return tuple(ids[1 : ids.index(END)])


def tokenize(captions: list[str]) -> Tensor:
    """Token ids as the host makes them, [len(captions), LENGTH], int64.

    Raises:
        ValueError: a caption is longer than one chunk.
    """
    rows = torch.full((len(captions), LENGTH), END, dtype=torch.int64)
    for row, text in zip(rows, captions, strict=True):
        ids = [token for word in text.split() for token in word_ids(word)]
        if len(ids) > LENGTH - 2:
            raise ValueError(f"The caption {text!r} has {len(ids)} tokens; at most {LENGTH - 2} fit, shorten it.")
        row[0] = START
        row[1 : len(ids) + 1] = torch.tensor(ids, dtype=torch.int64)
    return rows


@cache
def known_ids() -> tuple[int, ...]:
    """Ids of the stored embedding rows, ascending: all caption words, a few spare words, those that [T] starts from."""
    phrases = (*NOUNS, *CONTEXTS, *STYLES, *COLOURS, "a", "an", "with", *SPARE_WORDS)
    ids = {token for phrase in phrases for word in phrase.split() for token in word_ids(word)}
    return tuple(sorted(ids | {START, END, *CONCEPT_INITIAL_IDS}))


def row_lookup() -> Tensor:
    """Map from token id to stored row, [49408], int64; unknown ids map to -1."""
    lookup = torch.full((END + 1,), -1, dtype=torch.int64)
    ids = torch.tensor(known_ids())
    lookup[ids] = torch.arange(len(ids))
    return lookup
