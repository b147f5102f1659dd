"""StrengthSchedule: λ per map size and over time, for the sampling nodes."""

from __future__ import annotations

from comfy_api.latest import io

from ..dci_core.sampling.strength import StrengthSchedule as Schedule
from ..dci_core.setting import settings_of
from .inputs import setting_input
from .sockets import SAMPLE, ScheduleSocket, found_by


class StrengthSchedule(io.ComfyNode):
    """Collect what is added to λ."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIStrengthSchedule",
            display_name="DCI Strength Schedule",
            category=SAMPLE,
            description="Turns λ separately for small and large maps and over time. Every value is added to the sampler's λ; "
            "0 everywhere changes nothing, bit for bit.",
            search_aliases=found_by("lambda", "injection strength", "map size"),
            inputs=[setting_input(Schedule, name) for name in settings_of(Schedule)],
            outputs=[
                ScheduleSocket.Output(
                    display_name="strength_schedule", tooltip="For DCI Sampler, Apply DCI and DCI Lambda Sweep."
                )
            ],
        )

    @classmethod
    def execute(cls, **offsets: float) -> io.NodeOutput:
        return io.NodeOutput(Schedule(**offsets))
