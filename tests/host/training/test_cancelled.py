"""A cancelled run says where it stopped, and how it goes on."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import pytest
import torch
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.observer import TrainingObserver
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from training_runs import inputs, settings

from workbench.tiny import Tiny, tiny


class Told(TrainingObserver):
    """Keeps what a run says of itself in the end."""

    told = ""

    def tell(self, text: str) -> None:
        self.told = text


@pytest.fixture(scope="module")
def base() -> Tiny:
    return tiny("mini")


@pytest.mark.parametrize(
    ("reuse", "every", "text"),
    [
        (True, 1, "Stopped at step 2 of 5; queue the same graph again to go on."),
        (False, 0, "Stopped at step 2 of 5; switch reuse on and queue the same graph again to go on."),
    ],
)
def test_a_cancelled_run_says_where_it_stopped_and_how_it_goes_on(
    base: Tiny, tmp_path: Path, reuse: bool, every: int, text: str
) -> None:
    class Cancelled(Told):
        def on_step(self, step: int, loss: float) -> None:
            if step == 2:
                raise comfy.model_management.InterruptProcessingException

    listener = Cancelled()
    storage = Storage(tmp_path, CheckpointPlan(every=every), reuse)
    with pytest.raises(comfy.model_management.InterruptProcessingException), torch.inference_mode():
        train_concept(
            HostModel(base.model, base.clip, base.vae), inputs(), settings(steps=5), storage, observer=listener
        )
    assert listener.told == text


def test_a_cancelled_run_that_keeps_nothing_says_so(base: Tiny) -> None:
    class Cancelled(Told):
        def on_step(self, step: int, loss: float) -> None:
            raise comfy.model_management.InterruptProcessingException

    listener = Cancelled()
    with pytest.raises(comfy.model_management.InterruptProcessingException), torch.inference_mode():
        train_concept(HostModel(base.model, base.clip, base.vae), inputs(), settings(steps=5), observer=listener)
    assert listener.told == "Stopped at step 1 of 5; nothing of it was kept."
