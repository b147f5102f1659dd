"""DCITidyTrainings: what trainings have left on the disk, with sizes, and a way to delete it."""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io, ui

from ..dci_core.setting import settings_of
from ..dci_core.training.tidying import TidyAction, TidyPlan, tidy
from .host.concepts.store import roots_beside, training_root
from .host.node_text import announce, text_of_node
from .inputs import setting_input
from .sockets import TRAIN, found_by


class TidyTrainings(io.ComfyNode):
    """List or delete runs of training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCITidyTrainings",
            display_name="DCI Tidy Trainings",
            category=TRAIN,
            description="Lists what trainings have left in models/dci_concepts/training, with sizes, and deletes what you choose. "
            "Concepts that Save Concept has written and class images are never touched.",
            search_aliases=found_by("delete checkpoints", "free disk space", "clean up"),
            inputs=[setting_input(TidyPlan, name, optional=name != "action") for name in settings_of(TidyPlan)],
            outputs=[io.String.Output(display_name="report", tooltip="What the node says.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")  # a new one equals nothing, math.nan in the host's keys itself: look at the disk every time

    @classmethod
    def execute(
        cls, action: str, older_than_days: int = TidyPlan.older_than_days, run: str = TidyPlan.run
    ) -> io.NodeOutput:
        report = tidy(roots_beside(training_root()), TidyPlan(TidyAction(action), older_than_days, run), time.time())
        announce(report, text_of_node(cls.hidden.unique_id))
        return io.NodeOutput(report, ui=ui.PreviewText(report))
