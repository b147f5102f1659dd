"""What scenes show, as the label numbers of the judge, and how often a reading is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from demo_world.judge import Reading
from demo_world.scenes import Scene
from demo_world.vocabulary import COLOURS, CONTEXTS, EXEMPLARS, NOUNS, STYLES

COLOURLESS = ("black and white photo of",)  # styles in which no colour can be told


@dataclass(frozen=True)
class Truth:
    """Label numbers of B scenes, each [B], int64.

    Args:
        exemplar: of the main object, in EXEMPLARS.
        noun: in NOUNS.
        companion: of the second object, in EXEMPLARS; 0 where there is none.
        second_noun: 0 where there is none, else 1 + its number in NOUNS.
        context: in CONTEXTS.
        style: in STYLES.
        colour: in COLOURS, 0 is "its own".
        coloured: whether a colour was asked for and can be seen, bool.
    """

    exemplar: Tensor
    noun: Tensor
    companion: Tensor
    second_noun: Tensor
    context: Tensor
    style: Tensor
    colour: Tensor
    coloured: Tensor


def truth_of(scenes: Sequence[Scene]) -> Truth:
    """The label numbers of scenes."""
    exemplars = {name: number for number, name in enumerate(EXEMPLARS)}
    nouns = {noun: number for number, noun in enumerate(NOUNS)}
    return Truth(
        exemplar=torch.tensor([exemplars[scene.exemplar] for scene in scenes]),
        noun=torch.tensor([nouns[scene.noun] for scene in scenes]),
        companion=torch.tensor([exemplars[scene.companion] if scene.companion else 0 for scene in scenes]),
        second_noun=torch.tensor([1 + nouns[scene.second_noun] if scene.second_noun else 0 for scene in scenes]),
        context=torch.tensor([CONTEXTS.index(scene.context) for scene in scenes]),
        style=torch.tensor([STYLES.index(scene.style) for scene in scenes]),
        colour=torch.tensor([tuple(COLOURS).index(scene.colour) for scene in scenes]),
        coloured=torch.tensor([bool(scene.colour) and scene.style not in COLOURLESS for scene in scenes]),
    )


@dataclass(frozen=True)
class Tally:
    """How often something was right.

    Args:
        right: pictures.
        of: pictures that were asked.
    """

    right: int
    of: int

    @property
    def share(self) -> float:
        """0 … 1; not a number where nothing was asked."""
        return self.right / self.of if self.of else float("nan")


def tallies(reading: Reading, truth: Truth) -> dict[str, Tally]:
    """Count what is right.

    "noun", "context" and "style" ask every picture and "exemplar" too; "second noun" those that should show one, "no
    second noun" the others; "colour" those in which a colour was asked for and can be seen, among the colours: whether
    an apple is red by itself or was painted red cannot always be told.
    """
    paired = truth.second_noun > 0
    nobody = torch.zeros_like(reading.second_noun[:, 0], dtype=torch.bool)
    said_second = reading.second_noun.argmax(dim=1)
    said_colour = 1 + reading.colour[:, 1:].argmax(dim=1)
    return {
        "exemplar": _tally(reading.exemplar.argmax(dim=1) == truth.exemplar, ~nobody),
        "noun": _tally(reading.noun.argmax(dim=1) == truth.noun, ~nobody),
        "second noun": _tally(said_second == truth.second_noun, paired),
        "no second noun": _tally(said_second == 0, ~paired),
        "context": _tally(reading.context.argmax(dim=1) == truth.context, ~nobody),
        "style": _tally(reading.style.argmax(dim=1) == truth.style, ~nobody),
        "colour": _tally(said_colour == truth.colour, truth.coloured),
    }


def _tally(right: Tensor, asked: Tensor) -> Tally:
    return Tally(int((right & asked).sum()), int(asked.sum()))
