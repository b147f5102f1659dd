"""A small CNN that reads the ground truth off a picture: the judge of everything the demo model draws.

It knows the class nouns and, beside them, every custom concept as a subject of its own.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from demo_world.concepts import CONCEPTS
from demo_world.storage import RELEASE, cache_folder, load_checkpoint, require
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES

CLASSIFIER_CHECKPOINT = "classifier.pt"
CLASSIFIER_COMMAND = "python -m demo_world.commands.train_classifier"
JUDGE_FILE = RELEASE / "dci-demo-judge.safetensors"
FEATURES = 160
NAMES: dict[str, tuple[str, ...]] = {
    "subject": (*NOUNS, *(concept.name for concept in CONCEPTS)),
    "second_noun": ("", *NOUNS),
    "context": CONTEXTS,
    "style": STYLES,
    "colour": tuple(COLOURS),
}


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Classifier(nn.Module):
    """Five heads (subject, second noun, context, style, colour) on shared features; classes as in NAMES."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(3, 24, 2),
            _block(24, 48, 2),
            _block(48, 96, 2),
            _block(96, 96, 1),
            _block(96, FEATURES, 2),
            _block(FEATURES, FEATURES, 1),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(2 * FEATURES, len(classes)) for name, classes in NAMES.items()})

    def features(self, pictures: Tensor) -> Tensor:
        """Mean and maximum over the picture of the last maps, [B, 2 * FEATURES]; input [B, 3, h, w] in 0 ... 1."""
        maps = self.body(pictures * 2.0 - 1.0)  # [B, FEATURES, h / 16, w / 16]
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Class scores per label, each [B, classes]; input [B, 3, h, w] in 0 ... 1."""
        features = self.features(pictures)
        return {name: head(features) for name, head in self.heads.items()}


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """[B, h, w, 3] uint8 -> [B, 3, h, w] in 0 ... 1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255.0


def degrade(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur some pictures and add noise to some, so that a judge of generated pictures is not put off by softness.

    Args:
        pictures: [B, 3, h, w] in 0 ... 1.
        rng: decides which.
    """
    soft = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear", align_corners=False)
    blurred = torch.from_numpy(rng.random(len(pictures)) < 0.3)[:, None, None, None]
    strength = torch.from_numpy((rng.random(len(pictures)) < 0.3) * 0.05).float()[:, None, None, None]
    noise = torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32))
    return torch.where(blurred, soft, pictures) + strength * noise


@torch.no_grad()
def accuracies(model: Classifier, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> dict[str, float]:
    """Share of pictures whose label is told right, per head.

    Args:
        model: in evaluation mode.
        pictures: [N, h, w, 3], uint8.
        labels: [N, 5], columns in the order of NAMES; `demo_world.scenes.labels` gives them for nouns.
    """
    right = dict.fromkeys(NAMES, 0)
    for start in range(0, len(pictures), 100):
        scores = model(to_tensor(pictures[start : start + 100]))
        for column, name in enumerate(NAMES):
            truth = torch.from_numpy(labels[start : start + 100, column])
            right[name] += int((scores[name].argmax(dim=1) == truth).sum())
    return {name: count / len(pictures) for name, count in right.items()}


def load_classifier() -> Classifier:
    """The trained classifier, frozen, in evaluation mode."""
    state = load_checkpoint(require(cache_folder() / CLASSIFIER_CHECKPOINT, CLASSIFIER_COMMAND))
    model = Classifier()
    model.load_state_dict(state["model"])
    return model.eval().requires_grad_(False)


def load_judge() -> Classifier:
    """The shipped classifier, frozen, in evaluation mode."""
    model = Classifier()
    model.load_state_dict(
        {
            name: value.float() if value.is_floating_point() else value
            for name, value in load_file(require(JUDGE_FILE, "python -m demo_world.commands.export_judge")).items()
        }
    )
    return model.eval().requires_grad_(False)
