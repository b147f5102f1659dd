"""The judge: a small CNN that finds the objects in a picture and reads the ground truth off it.

It first says, cell by cell, where the main object and the companion are (the renderer's exact masks teach it), then
names each from its own cells with one classifier for both, over every sprite, the custom subjects among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from demo_world.pool import view
from demo_world.storage import RELEASE
from demo_world.vocabulary import COLOURS, CONTEXTS, EXEMPLARS, NOUN_OF, NOUNS, STYLES

JUDGE_FILE = RELEASE / "dci-demo-judge.safetensors"
FEATURES = 144
BACKGROUND, MAIN, COMPANION = range(3)  # what a cell shows
_BATCH = 64


@dataclass(frozen=True)
class Scores:
    """Class scores (before softmax) of B pictures.

    Args:
        place: what each cell shows, [B, 3, CELLS, CELLS].
        exemplar: sprite of the main object, [B, EXEMPLARS].
        companion: sprite of the second object, if there is one, [B, EXEMPLARS].
        paired: whether there is one, [B].
        context: [B, CONTEXTS].
        style: [B, STYLES].
        colour: [B, COLOURS].
    """

    place: Tensor
    exemplar: Tensor
    companion: Tensor
    paired: Tensor
    context: Tensor
    style: Tensor
    colour: Tensor


@dataclass(frozen=True)
class Reading:
    """Probabilities of what B pictures show; every row sums to one.

    Args:
        exemplar: sprite of the main object, [B, EXEMPLARS].
        noun: its class noun, [B, NOUNS].
        second_noun: [B, 1 + NOUNS]; the first column says that there is no second object.
        context: [B, CONTEXTS].
        style: [B, STYLES].
        colour: of the main object, [B, COLOURS]; the first column is "its own".
    """

    exemplar: Tensor
    noun: Tensor
    second_noun: Tensor
    context: Tensor
    style: Tensor
    colour: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Reading], device: torch.device | str | None = None) -> Reading:
        """The readings of several groups of pictures, 1 or more, as one.

        Args:
            parts: in the order of the pictures.
            device: where it is needed; None leaves it where the parts are.
        """
        names = (field.name for field in fields(cls))
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]).to(device) for name in names})


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def pool_cells(maps: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean and weighted maximum of maps over their cells, [B, 2 C].

    Args:
        maps: [B, C, h, w], not negative.
        weights: [B, h, w] in 0 … 1; cells with none do not count.
    """
    weighted = maps * weights[:, None]
    mean = weighted.sum(dim=(2, 3)) / weights.sum(dim=(1, 2)).clamp(min=1e-3)[:, None]
    return torch.cat([mean, weighted.amax(dim=(2, 3))], dim=1)


class Judge(nn.Module):
    """Reads exemplar, second noun, context, style and colour off pictures."""

    noun_of_exemplar: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(3, 32, 2),
            _block(32, 64, 2),
            _block(64, 96, 1),
            _block(96, FEATURES, 2),
            _block(FEATURES, FEATURES, 1),
            _block(FEATURES, FEATURES, 1),
        )
        self.place = nn.Conv2d(FEATURES, 3, 3, padding=1)
        self.exemplar = nn.Linear(2 * FEATURES, len(EXEMPLARS))
        self.paired = nn.Linear(2 * FEATURES, 1)
        self.context = nn.Linear(2 * FEATURES, len(CONTEXTS))
        self.style = nn.Linear(2 * FEATURES, len(STYLES))
        self.colour = nn.Linear(2 * FEATURES, len(COLOURS))
        numbers = {noun: number for number, noun in enumerate(NOUNS)}
        table = torch.tensor([numbers[NOUN_OF[exemplar]] for exemplar in EXEMPLARS])
        self.register_buffer("noun_of_exemplar", table, persistent=False)

    def forward(self, pictures: Tensor) -> Scores:
        """Scores of pictures [B, 3, VIEW_PX, VIEW_PX] in 0 … 1."""
        maps = self.body(pictures * 2.0 - 1.0)
        place = self.place(maps)
        background, main, companion = place.softmax(dim=1).unbind(dim=1)
        of_main, of_companion = pool_cells(maps, main), pool_cells(maps, companion)
        return Scores(
            place=place,
            exemplar=self.exemplar(of_main),
            companion=self.exemplar(of_companion),
            paired=self.paired(of_companion)[:, 0],
            context=self.context(pool_cells(maps, background)),
            style=self.style(pool_cells(maps, torch.ones_like(main))),
            colour=self.colour(of_main),
        )

    def _nouns(self, exemplars: Tensor) -> Tensor:
        """Probabilities of sprites [B, EXEMPLARS], summed by class noun, [B, NOUNS]."""
        nouns = exemplars.new_zeros(len(exemplars), len(NOUNS))
        return nouns.index_add(1, self.noun_of_exemplar, exemplars)

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Reading:
        """Read pictures [B, 3, h, w] in 0 … 1, of any size that is not smaller than VIEW_PX."""
        return Reading.joined([self._read(view(part.float())) for part in pictures.split(_BATCH)])

    def _read(self, pictures: Tensor) -> Reading:
        scores = self(pictures)
        exemplar, paired = scores.exemplar.softmax(dim=1), scores.paired.sigmoid()[:, None]
        second = paired * self._nouns(scores.companion.softmax(dim=1))
        return Reading(
            exemplar=exemplar,
            noun=self._nouns(exemplar),
            second_noun=torch.cat([1 - paired, second], dim=1),
            context=scores.context.softmax(dim=1),
            style=scores.style.softmax(dim=1),
            colour=scores.colour.softmax(dim=1),
        )


def load_judge(path: Path = JUDGE_FILE) -> Judge:
    """The shipped judge, frozen, in evaluation mode.

    Args:
        path: a file by `python -m demo_world.commands.train_judge --export`.

    Raises:
        ValueError: the file is missing, damaged, or of another judge.
    """
    judge = Judge()
    try:
        values = {
            name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()
        }
        judge.load_state_dict(values)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The judge cannot be read from {path} ({error}). Check the repository out again.") from error
    return judge.eval().requires_grad_(False)
