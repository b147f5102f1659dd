"""Toy runs that are kept in a folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo
from comfyui_dci.dci_core.training.concept_training import ConceptTraining
from comfyui_dci.dci_core.training.folder import TrainingFolder
from comfyui_dci.dci_core.training.run import CheckpointPlan, run_training
from toy_training import changed, copies, toy, toy_settings, trained

KEY = "k" * 64


EVERYTHING: dict[str, Any] = {
    "steps": 7,
    "schedule": "cosine",
    "warmup_steps": 2,
    "accumulation_steps": 2,
    "max_gradient_norm": 0.1,
    "min_snr_gamma": 5.0,
    "noise_offset": 0.1,
    "ema_decay": 0.9,
    "prior_loss_weight": 0.5,
    "evaluate_every": 2,
}


class Stop(BaseException):
    """What a cancelled run raises."""


def run(**changes: Any) -> ConceptTraining:
    return toy(toy_settings(**{**EVERYTHING, **changes}), images=5, class_images=3, pooled=True)


def concept_of(training: ConceptTraining) -> Concept:
    info = ConceptInfo(
        "sd1", "cat", "V*", 1, 1, 2, training.steps_done, 5, "", training_key=KEY, history={"loss": training.losses}
    )
    with training.result():
        deltas = {f"diffusion_model.middle.{name}": value for name, value in training.deltas().items()}
        tokens = {name: value.detach().float().clone() for name, value in training.prompts.tokens.items()}
    return Concept(deltas, tokens, info)


def stop_at(step: int) -> Callable[[int, float], None]:
    def on_step(number: int, loss: float) -> None:
        if number == step:
            raise Stop

    return on_step


def quiet(number: int, loss: float) -> None:
    pass


def train(
    folder: TrainingFolder,
    on_step: Callable[[int, float], None] = quiet,
    plan: CheckpointPlan | None = None,
    **changes: Any,
) -> ConceptTraining:
    training = run(**changes)
    run_training(training, on_step, folder, plan or CheckpointPlan(every=2), concept_of)
    return training


def assert_same_run(one: ConceptTraining, other: ConceptTraining) -> None:
    assert one.losses == other.losses and one.evaluations == other.evaluations
    assert (one.start, one.end) == (other.start, other.end)
    assert changed(copies(trained(one)), trained(other)) == set()
    with one.result(), other.result():
        assert changed(copies(trained(one)), trained(other)) == set()
