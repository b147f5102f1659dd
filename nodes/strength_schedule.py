"""StrengthSchedule: λ per map size and over time, for the sampling nodes."""

from __future__ import annotations

from comfy_api.latest import io

from ..dci_core.sampling.strength import StrengthSchedule as Schedule
from .sockets import CATEGORY, ScheduleSocket


class StrengthSchedule(io.ComfyNode):
    """Collect what is added to λ."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIStrengthSchedule",
            display_name="DCI Strength Schedule",
            category=CATEGORY,
            description="Turns λ separately for small and large maps and over time. Every value is added to the sampler's λ; "
            "0 everywhere changes nothing, bit for bit.",
            search_aliases=["lambda", "injection strength", "map size"],
            inputs=[
                _offset("full_maps", "Maps as large as the latent (64 at 512 pixels in SD1.x): texture and style."),
                _offset("half_maps", "Maps of half the latent's edge (32 at 512 pixels; 64 at 1024 in SDXL)."),
                _offset("quarter_maps", "Maps of a quarter (16 at 512 pixels; 32 at 1024 in SDXL)."),
                _offset("eighth_maps", "Maps of an eighth (8 at 512 pixels; none in SDXL): objects and layout."),
                _offset("at_start", "At the run's first, noisiest step."),
                _offset("at_end", "Where the auxiliary branch ends; between start and end it changes evenly."),
            ],
            outputs=[
                ScheduleSocket.Output(
                    display_name="strength_schedule", tooltip="For DCI Sampler, Apply DCI and DCI Lambda Sweep."
                )
            ],
        )

    @classmethod
    def execute(cls, **offsets: float) -> io.NodeOutput:
        return io.NodeOutput(Schedule(**offsets))


def _offset(name: str, where: str) -> io.Input:
    neutral = getattr(Schedule(), name)
    tooltip = f"{where} Added to λ there; higher lets the scene in, lower keeps to your subject, 0 is neutral."
    return io.Float.Input(name, default=neutral, min=-10.0, max=10.0, step=0.05, tooltip=tooltip)
