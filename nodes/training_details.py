"""What ICO Trainer takes from other nodes: how it trains in detail, and what it keeps and looks at on the way."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .sockets import TRAIN, CheckpointsSocket, TrainingSettingsSocket, found_by
from .training_inputs import detail_inputs, watching_inputs


class TrainingDetails(io.ComfyNode):
    """Collect settings of a training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCITrainingSettings",
            display_name="DCI Training Settings",
            category=TRAIN,
            description="What is trained, at which rates and in which numbers, for those who know. Unchanged, it changes nothing.",
            search_aliases=found_by(
                "learning rate", "scheduler", "optimizer", "precision", "low rank", "ema", "min snr"
            ),
            inputs=detail_inputs(),
            outputs=[TrainingSettingsSocket.Output(display_name="settings", tooltip="For ICO Trainer.")],
        )

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(values)


class Checkpoints(io.ComfyNode):
    """Collect what a training keeps and looks at."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCICheckpoints",
            display_name="DCI Checkpoints",
            category=TRAIN,
            description="Which steps of a training are kept, when it is measured, drawn and stopped early. Nothing that is learned "
            "depends on it, but for stop_after. Unchanged, it changes nothing.",
            search_aliases=found_by("save", "resume", "preview", "evaluation", "early stopping"),
            inputs=watching_inputs(),
            outputs=[CheckpointsSocket.Output(display_name="checkpoints", tooltip="For ICO Trainer.")],
        )

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(values)
