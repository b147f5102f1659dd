"""Scores by hand, with a judge and a CLIP that say what they are told."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from demo_world.judge import Judge, Reading
from demo_world.prompt_reading import Asked
from demo_world.scenes import Scene
from demo_world.vocabulary import COLOURS, CONTEXTS, EXEMPLARS, NOUNS, STYLES
from study.alignment import ClipScorer
from study.prompts import Prompt
from study.scoring import asked_of, score

BEACH = CONTEXTS.index("on a beach")
GUITAR = 1 + list(NOUNS).index("guitar")
PROMPTS = [
    Prompt("context", Scene("panda", context="on a beach")),
    Prompt("second noun", Scene("panda", "guitar", "on a beach")),
    Prompt("style", Scene("panda", style="line art of")),
    Prompt("colour", Scene("panda", colour="blue")),
]


class ToldJudge(nn.Module):
    """Reads in every picture: the panda with 0.75, a beach with 0.5, a guitar with 0.25, line art with 0.125, blue with 1."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def read(self, pictures: Tensor) -> Reading:
        assert pictures.shape[1:] == (3, 8, 8)

        def head(classes: int, place: int, value: float) -> Tensor:
            found = torch.zeros(len(pictures), classes)
            found[:, place] = value
            return found

        return Reading(
            exemplar=head(len(EXEMPLARS), EXEMPLARS.index("panda"), 0.75),
            noun=head(len(NOUNS), 0, 1.0),
            second_noun=head(1 + len(NOUNS), GUITAR, 0.25),
            context=head(len(CONTEXTS), BEACH, 0.5),
            style=head(len(STYLES), STYLES.index("line art of"), 0.125),
            colour=head(len(COLOURS), list(COLOURS).index("blue"), 1.0),
        )


class ToldClip:
    """Says how many references there are, and which texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def image_alignment(self, images: Tensor, references: Tensor) -> Tensor:
        return torch.full((len(images),), float(len(references)))

    def text_alignment(self, images: Tensor, texts: list[str]) -> Tensor:
        self.texts = texts
        return torch.arange(len(images)) / 10


def scored(prompts: list[Prompt], **more: Any) -> Any:
    return score(cast(Judge, ToldJudge()), torch.zeros(len(prompts), 8, 8, 3), prompts, **more)


def test_obedience_is_that_all_is_there_that_was_asked_for() -> None:
    found = scored(PROMPTS)
    assert found.likeness.tolist() == [0.75] * 4
    assert found.obedience.tolist() == [0.5, 0.5 * 0.25, 0.125, 1.0]
    assert found.clip_i is None and found.clip_t is None


def test_what_is_there_instead_does_not_count() -> None:
    others = [Prompt("context", Scene("panda", context="in space")), Prompt("colour", Scene("panda", colour="red"))]
    assert scored(others).obedience.tolist() == [0.0, 0.0]
    assert scored([Prompt("context", Scene("poodle", context="on a beach"))]).likeness.tolist() == [0.0]


def test_each_kind_of_prompt_asks_for_something_of_its_own() -> None:
    assert [asked_of(prompt) for prompt in PROMPTS] == [
        Asked("on a beach"),
        Asked("on a beach", "guitar"),
        Asked(style="line art of"),
        Asked(colour="blue"),
    ]


def test_alignments_are_with_the_references_and_the_prompt_without_the_placeholder() -> None:
    clip = ToldClip()
    found = scored(PROMPTS, clip=cast(ClipScorer, clip), references=torch.zeros(6, 8, 8, 3))
    assert found.clip_i.tolist() == [6.0] * 4 and found.clip_t.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert clip.texts[1] == "photo of a bear with a guitar on a beach"
