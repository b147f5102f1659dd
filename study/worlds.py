"""A world that defaults are measured in: a small model, subjects it has never seen, prompts, and a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from comfyui_dci.nodes.host.demo_model import Subject, find_subject, list_subjects, load_demo_model, subject_images
from torch import Tensor

from demo_world.classifier import load_judge
from demo_world.concepts import CONCEPTS
from demo_world.contexts import SIZE_PX
from study.plan import PLACEHOLDER, Prompt, prompts_for
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

    name = "demo"
    resolution = SIZE_PX
    _choice = ("teal_fox", "checked_teddy", "badged_amphora", "dotted_sailboat")

    def __init__(self) -> None:
        self._judge = load_judge()
        self._concepts = {concept.name: concept for concept in CONCEPTS}
        self.choice = [each for each in list_subjects() if each.name in self._choice]
        self.reported = [each for each in list_subjects() if each.name not in self._choice]

    def load(self) -> tuple[Any, Any, Any]:
        with torch.inference_mode():
            return load_demo_model()

    def references(self, subject: Subject) -> list[Tensor]:
        return list(subject_images(find_subject(subject.name)))

    def tasks(self, subject: Subject) -> list[Task]:
        by_kind: dict[str, list[Prompt]] = {}
        for prompt in prompts_for(self._concepts[subject.name]):
            by_kind.setdefault(prompt.kind, []).append(prompt)
        chosen = [*by_kind["context"][1:7:2], *by_kind["second noun"][:4], by_kind["style"][0]]
        return [Task(prompt.kind, prompt.text, prompt) for prompt in chosen]

    def class_captions(self, noun: str) -> list[str]:
        scenes = ["", "on grass", "in the snow", "on sand", "at night", "on a brick wall", "in the water"]
        plain = [f"photo of a {noun} {scene}".strip() for scene in scenes]
        return [*plain, f"sketch of a {noun}", f"pixel art of a {noun}", f"photo of a {noun} with a ball on grass"]

    def auxiliary_noun(self, subject: Subject) -> str:
        return "dog" if subject.class_noun != "dog" else "cat"

    def judge(self, images: Tensor, subject: Subject, tasks: Sequence[Task]) -> list[tuple[float, float]]:
        concept = self._concepts[subject.name]
        scores = [score(self._judge, image[None], concept, task.wanted)[0] for image, task in zip(images, tasks)]
        return [(each.fidelity, each.editability) for each in scores]
