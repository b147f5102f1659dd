"""Two fine-tuned subjects in one prompt: does the first keep its look, does the second come, and do they mix?

The judge names the main object of a picture, custom subjects among them, and the noun of its companion, but not which custom
subject the companion is. Run from the repository root, with the study's fine-tunings there (they are made if not): python -m study.two_concepts
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from comfyui_dci.dci_core.concept.concept import renamed
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.files import write_atomically
from comfyui_dci.dci_core.pictures.sweep import draw_sweep
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.sampling.conditioning import build_conditioning
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from PIL import Image
from torch import Tensor

from demo_world.judge import Judge, load_judge
from demo_world.storage import cache_folder, training_log
from demo_world.vocabulary import EXEMPLARS, NOUNS, SUBJECTS, with_article
from study.cells import CELLS
from study.plan import EDITED, REPORTED, VARIED
from study.prompts import PLACEHOLDER
from study.statistics import Array
from study.studio import Studio, encode, noise_seed
from study.tables import as_csv, with_interval, write_text_atomically

RESULT, PICTURE = CELLS.with_name("two_concepts.csv"), CELLS.with_name("two_concepts.jpg")
PLACEHOLDERS = (PLACEHOLDER, "W*")
SEEDS = (1, 2)  # of the trainings
AUXILIARY_NOUNS = ("dog", "cat", "apple", "boat")  # the first two that neither subject is
PICTURES = 8  # of each pair, way and seed
CAPTION = "above: strength of the first + of the second concept; - is the plain noun. The first picture of each."
MEASURES = ("first is there", "second took its place", "companion's noun is there")


@dataclass(frozen=True)
class Way:
    """How a pair is drawn.

    Args:
        name: for the table.
        strengths: of the first and the second concept's weights; None leaves a concept out, and its plain noun stands in the prompt.
        dci: with two branches.
    """

    name: str
    strengths: tuple[float | None, float | None]
    dci: bool = False

    @property
    def label(self) -> str:
        """The strengths, for the picture."""
        told = " + ".join("-" if strength is None else f"{strength:g}" for strength in self.strengths)
        return f"{told} DCI" if self.dci else told


WAYS = (
    Way("plain nouns", (None, None)),
    Way("first concept, plain noun", (1.0, None)),
    Way("plain noun, second concept", (None, 1.0)),
    Way("both concepts", (1.0, 1.0)),
    Way("both concepts, the second at strength 0.5", (1.0, 0.5)),
    Way("first concept, plain noun, DCI", (1.0, None), dci=True),
    Way("both concepts, DCI", (1.0, 1.0), dci=True),
)


def pairs(subjects: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every subject as the main one, with the next one of another noun as its companion."""
    for number, first in enumerate(subjects):
        following = [*subjects[number + 1 :], *subjects[:number]]
        yield first, next(other for other in following if SUBJECTS[other] != SUBJECTS[first])


def prompt_of(first: str, second: str, way: Way) -> str:
    """The prompt, e.g. "photo of a V* bear with a W* bird"."""
    named = [
        with_article(SUBJECTS[subject]) if strength is None else f"a {placeholder} {SUBJECTS[subject]}"
        for subject, strength, placeholder in zip((first, second), way.strengths, PLACEHOLDERS)
    ]
    return f"photo of {' with '.join(named)}"


@torch.inference_mode()
def draw(studio: Studio, first: str, second: str, way: Way, seed: int) -> Tensor:
    """Sample a pair's pictures, [PICTURES, H, W, 3] in 0 … 1, with trainings of a seed; noise is the same for every way."""
    model, clip = studio.base.model, studio.base.clip
    for subject, strength, placeholder in zip((first, second), way.strengths, PLACEHOLDERS):
        if strength is None:
            continue
        trained = load_concept(studio.fine_tune(subject, EDITED, EDITED.steps, seed))
        model, clip = apply_concept(model, clip, renamed(trained, placeholder), strength)
    text = prompt_of(first, second, way)
    positive = encode(clip, text)
    if way.dci:
        free = [noun for noun in AUXILIARY_NOUNS if noun not in (SUBJECTS[first], SUBJECTS[second])]
        nouns = ", ".join(free[: 2 - way.strengths.count(None)])
        positive = build_conditioning(clip, text, nouns).conditioning
        settings: dict[str, Any] = dict(VARIED.dci or ())
        model, _ = apply_dci(model, DCISettings(**settings))
    return studio.sample(model, positive, encode(clip, ""), noise_seed(first, seed), range(PICTURES))


@torch.no_grad()
def judged(judge: Judge, pictures: Tensor, first: str, second: str) -> Array:
    """Means of ``MEASURES`` over pictures, each 0 … 1."""
    reading, noun = judge.read(pictures.movedim(-1, 1)), list(NOUNS).index(SUBJECTS[second])
    of_each = reading.exemplar[:, EXEMPLARS.index(first)], reading.noun[:, noun], reading.second_noun[:, 1 + noun]
    return np.array([float(values.mean()) for values in of_each])


def table(means: dict[str, Array]) -> str:
    """CSV of each way's means over pairs [pairs, MEASURES], with 95 % intervals over pairs."""
    rows = [[way, *map(with_interval, values.T)] for way, values in means.items()]
    return as_csv([["way", *MEASURES], *rows])


def main() -> None:
    log, studio, judge = training_log("two_concepts"), Studio(cache_folder() / "study"), load_judge()
    means, shown = {}, []
    for way in WAYS:
        drawn = [[draw(studio, *pair, way, seed) for seed in SEEDS] for pair in pairs(REPORTED)]
        shown.append([of_pair[0][0] for of_pair in drawn])
        rows = [
            np.mean([judged(judge, pictures, *pair) for pictures in of_pair], axis=0)
            for pair, of_pair in zip(pairs(REPORTED), drawn)
        ]
        means[way.name] = np.array(rows)
        log.info("%s: %s", way.name, means[way.name].mean(axis=0).round(3))
    write_text_atomically(RESULT, table(means))
    labels = [f"{first}\nwith {second}" for first, second in pairs(REPORTED)]
    grid = draw_sweep(list(zip(*shown)), [way.label for way in WAYS], labels, CAPTION)
    picture = Image.fromarray((grid.numpy() * 255).round().astype(np.uint8))
    write_atomically(PICTURE, lambda path: picture.save(path, format="JPEG", quality=90))


if __name__ == "__main__":
    main()
