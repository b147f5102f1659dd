"""A world that defaults are measured in: a small model, subjects it has never seen, prompts, and a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from comfyui_dci.nodes.host.demo_model import Subject, find_subject, load_demo_model, subject_images
from torch import Tensor

from demo_world.judge import load_judge
from demo_world.placement import PICTURE_PX
from demo_world.scenes import Scene, caption
from demo_world.vocabulary import CONTEXTS, NOUNS, PHOTO, STYLES
from study.plan import CHOICE, REPORTED
from study.prompts import PLACEHOLDER, Prompt, prompts_for
from study.scoring import score


@dataclass(frozen=True)
class Task:
    """A prompt with what must be seen in its picture.

    Args:
        kind: which of the paper's kinds of prompts.
        text: with "V* <noun>" in it.
        wanted: the world's own description of what was asked for.
    """

    kind: str
    text: str
    wanted: Any

    def with_noun(self, subject: Subject, noun: str) -> str:
        """The prompt with another noun in the subject's place."""
        return self.text.replace(f"{PLACEHOLDER} {subject.class_noun}", noun)


class World(Protocol):
    """What a measurement needs of a world."""

    name: str
    resolution: int
    choice: Sequence[Subject]
    """Subjects that defaults are chosen on."""
    reported: Sequence[Subject]
    """Subjects that the tables show."""

    def load(self) -> tuple[Any, Any, Any]:
        """The host's MODEL, CLIP and VAE."""
        ...

    def references(self, subject: Subject) -> list[Tensor]:
        """Photographs of a subject, [H, W, 3] each."""
        ...

    def tasks(self, subject: Subject) -> list[Task]:
        """Eight prompts: contexts, a second object, a style."""
        ...

    def class_captions(self, noun: str) -> list[str]:
        """Captions of class images, in many scenes."""
        ...

    def auxiliary_noun(self, subject: Subject) -> str:
        """A common noun for the auxiliary branch."""
        ...

    def judge(self, images: Tensor, subject: Subject, tasks: Sequence[Task]) -> list[tuple[float, float]]:
        """Likeness and obedience of each picture, 0 … 1; images [B, H, W, 3], a task each."""
        ...


class DemoWorld:
    """The demo model, its bundled subjects and its judge."""

    name = "demo_256"
    """Rows of "demo" were measured on the first demo model."""
    resolution = PICTURE_PX

    def __init__(self) -> None:
        self._judge = load_judge()
        self.choice = [find_subject(name) for name in CHOICE]
        self.reported = [find_subject(name) for name in REPORTED]

    def load(self) -> tuple[Any, Any, Any]:
        with torch.inference_mode():
            return load_demo_model()

    def references(self, subject: Subject) -> list[Tensor]:
        return list(subject_images(find_subject(subject.name)))

    def tasks(self, subject: Subject) -> list[Task]:
        by_kind: dict[str, list[Prompt]] = {}
        for prompt in prompts_for(subject.name):
            by_kind.setdefault(prompt.kind, []).append(prompt)
        chosen = [*by_kind["context"][:3], *by_kind["second noun"], by_kind["style"][0]]
        return [Task(prompt.kind, prompt.text, prompt) for prompt in chosen]

    def class_captions(self, noun: str) -> list[str]:
        companion = "balloon" if noun != "balloon" else "cup"
        plain = [caption(Scene(NOUNS[noun][0], context=context)) for context in CONTEXTS]
        styled = [caption(Scene(NOUNS[noun][0], style=style)) for style in STYLES if style != PHOTO]
        return [*plain, *styled, caption(Scene(NOUNS[noun][0], NOUNS[companion][0], "on grass"))]

    def auxiliary_noun(self, subject: Subject) -> str:
        return "dog" if subject.class_noun != "dog" else "cat"

    def judge(self, images: Tensor, subject: Subject, tasks: Sequence[Task]) -> list[tuple[float, float]]:
        scores = score(self._judge, images, [task.wanted for task in tasks])
        return list(zip(scores.likeness.tolist(), scores.obedience.tolist(), strict=True))
