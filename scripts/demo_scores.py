"""Score the pictures of a λ sweep on the demo model: is it the subject, and is there what the prompt asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from demo_page import ScorePoint
from PIL import Image

from demo_world.judge import Judge
from demo_world.prompt_reading import all_shown, asked_of, shown_of
from demo_world.vocabulary import EXEMPLARS

JUDGED_BY = "the demo world's judge"


def scores_of(
    judge: Judge, rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], prompt: str, subject: str
) -> list[ScorePoint]:
    """Return the scores of each column, the mean over the rows.

    Args:
        judge: in evaluation mode.
        rows: of pictures of one size, each as long as ``columns``; the first of each is without DCI.
        columns: their labels.
        prompt: that all were drawn with.
        subject: the exemplar that was learned.
    """
    pictures = np.stack([np.asarray(image.convert("RGB")) for row in rows for image in row])
    reading = judge.read(torch.from_numpy(pictures).movedim(-1, 1).float() / 255)
    likeness = reading.exemplar[:, EXEMPLARS.index(subject)]
    shown = shown_of(asked_of(prompt, subject), reading)
    obeyed = all_shown(shown)
    points = []
    for column, label in enumerate(columns):
        like, obedience, *each = (
            float(values[column :: len(columns)].mean()) for values in (likeness, obeyed, *shown.values())
        )
        points.append(ScorePoint(label, like, obedience, dict(zip(shown, each)), plain=column == 0))
    return points
