"""What a picture shows against what its prompt asked for, by the judge; and the paper's two alignments, by a CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from demo_world.judge import Judge, Reading
from demo_world.prompt_reading import Asked, all_shown, shown_of
from demo_world.vocabulary import EXEMPLARS
from study.alignment import ClipScorer
from study.cells import Scores
from study.prompts import Prompt


def asked_of(prompt: Prompt) -> Asked:
    """Return what a prompt asks for beside its subject."""
    scene = prompt.scene
    return Asked(scene.context, scene.second_noun, scene.style, scene.colour)


def likeness(reading: Reading, subject: str) -> Tensor:
    """Probability that the main object is the subject, [B], 0 … 1."""
    return reading.exemplar[:, EXEMPLARS.index(subject)]


def obedience(reading: Reading, prompts: Sequence[Prompt]) -> Tensor:
    """Probability that all is there that the prompts ask for beside the subject, [B], 0 … 1.

    Args:
        reading: of B pictures.
        prompts: of each.
    """
    shown = {prompt: all_shown(shown_of(asked_of(prompt), reading)) for prompt in dict.fromkeys(prompts)}
    return torch.stack([shown[prompt][row] for row, prompt in enumerate(prompts)])


def score(
    judge: Judge,
    images: Tensor,
    prompts: Sequence[Prompt],
    clip: ClipScorer | None = None,
    references: Tensor | None = None,
) -> Scores:
    """Judge pictures of one subject.

    Args:
        judge: in evaluation mode, on any device.
        images: [B, H, W, 3] in 0 … 1, as the host's VAE decodes them.
        prompts: what was asked of each.
        clip: for alignments; None leaves them out.
        references: of the subject, [R, H, W, 3] in 0 … 1; needed with a CLIP.
    """
    device = next(judge.parameters()).device
    reading = judge.read(images.movedim(-1, 1).to(device))
    subject = prompts[0].scene.exemplar
    alike, obeyed = likeness(reading, subject), obedience(reading, prompts)
    if clip is None or references is None:
        return Scores(_array(alike), _array(obeyed))
    texts = [prompt.plain_text for prompt in prompts]
    return Scores(
        _array(alike),
        _array(obeyed),
        _array(clip.image_alignment(images, references)),
        _array(clip.text_alignment(images, texts)),
    )


def _array(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return values.double().cpu().numpy()
