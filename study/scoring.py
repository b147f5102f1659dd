"""What the judge sees in a picture, against what the prompt asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from demo_world.classifier import NAMES, Classifier
from demo_world.concepts import Concept
from study.plan import Prompt

HEAD = {"context": "context", "second noun": "second_noun", "colour": "colour", "style": "style"}


@dataclass(frozen=True)
class Score:
    """How one picture did.

    Args:
        fidelity: probability, by the judge, that the main object is the concept, 0 … 1.
        recognised: whether the concept is the likeliest of all subjects.
        editability: probability that what the prompt asked for (context, second noun, colour or style) is there, 0 … 1.
        obeyed: whether it is the likeliest.
    """

    fidelity: float
    recognised: bool
    editability: float
    obeyed: bool


@torch.no_grad()
def score(judge: Classifier, images: Tensor, concept: Concept, prompt: Prompt) -> list[Score]:
    """Judge pictures of one prompt.

    Args:
        judge: in evaluation mode.
        images: [B, H, W, 3] in 0 … 1, as the host's VAE decodes them.
        concept: the subject.
        prompt: what was asked for.
    """
    heads = judge(images.movedim(-1, 1).float())
    head = HEAD[prompt.kind]
    wanted = NAMES[head].index(_asked(prompt))
    subject, asked = heads["subject"].softmax(dim=1), heads[head].softmax(dim=1)
    own = NAMES["subject"].index(concept.name)
    return [
        Score(float(s[own]), int(s.argmax()) == own, float(a[wanted]), int(a.argmax()) == wanted)
        for s, a in zip(subject, asked, strict=True)
    ]


def _asked(prompt: Prompt) -> str:
    scene = prompt.scene
    return {
        "context": scene.context,
        "second noun": scene.second_noun or "",
        "colour": scene.colour,
        "style": scene.style,
    }[prompt.kind]
