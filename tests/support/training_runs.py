"""Small trainings on the host's models: their images, inputs and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.training.concept_training import ConceptTraining
from comfyui_dci.dci_core.training.settings import TrainingSettings
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.inputs import TrainingInputs
from comfyui_dci.nodes.host.training.observer import TrainingObserver
from comfyui_dci.nodes.host.training.preparation import prepare_training
from comfyui_dci.nodes.host.training.trainer import train_concept

from workbench.tiny import Tiny


class Watch(TrainingObserver):
    """Keep what a run tells, and pass each step on."""

    def __init__(self, on_step: Callable[[int, float], None] | None = None) -> None:
        self.steps: list[int] = []
        self.pictures: dict[int, torch.Tensor] = {}
        self.told: list[str] = []
        self._pass_on = on_step

    def on_step(self, step: int, loss: float) -> None:
        self.steps.append(step)
        if self._pass_on is not None:
            self._pass_on(step, loss)

    def on_preview(self, step: int, picture: torch.Tensor) -> None:
        self.pictures[step] = picture

    def tell(self, text: str) -> None:
        self.told.append(text)


def pictures(count: int = 3, seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.rand(count, 3, 6, 6, generator=generator)
    large = torch.nn.functional.interpolate(smooth, size=(64, 72), mode="bicubic").clamp(0, 1)
    return list(large.movedim(1, -1))


def inputs(noun: str = "cat", regularized: bool = False) -> TrainingInputs:
    others = pictures(2, seed=9) if regularized else []
    captions = ["photo of a cat on grass", "a cat"] if regularized else []
    return TrainingInputs(pictures(), noun, others, captions, 64)


def settings(**changes: Any) -> TrainingSettings:
    usual = {"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "context_learning_rate": 1e-2, "seed": 5}
    return TrainingSettings(**{**usual, **changes})


def train(base: Tiny, given: TrainingInputs | None = None, **changes: Any) -> tuple[Concept, list[float]]:
    with torch.inference_mode():
        return train_concept(HostModel(*base), replace(given or inputs(), keep_contexts=True), settings(**changes))


def prepared(base: Tiny, given: TrainingInputs | None = None, **changes: Any) -> ConceptTraining:
    with torch.inference_mode():
        return prepare_training(HostModel(*base), given or inputs(), settings(**changes))


def outside_inference(work: Callable[[], Any]) -> Any:
    with torch.inference_mode(False), torch.enable_grad():
        return work()
