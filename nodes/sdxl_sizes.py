"""SDXLSizes: tell SDXL the sizes of an image, in a conditioning of any text encode."""

from __future__ import annotations

from typing import Any

import node_helpers
from comfy_api.latest import io

from ..dci_core.sampling.size_conditioning import SizeConditioning
from ..dci_core.setting import settings_of
from .inputs import setting_input
from .sockets import SAMPLE, found_by


class SDXLSizes(io.ComfyNode):
    """Put SDXL's sizes into a conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCISDXLSizes",
            display_name="DCI SDXL Sizes",
            category=SAMPLE,
            description="Tells SDXL what size the picture is said to have, as CLIPTextEncodeSDXL does, for any conditioning; of "
            "Aux Prompt Builder's both branches get it. Other models do not read it.",
            search_aliases=found_by("size conditioning", "crop conditioning", "CLIPTextEncodeSDXL"),
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="From Aux Prompt Builder or any other text encode."),
                *(setting_input(SizeConditioning, name, optional=True) for name in settings_of(SizeConditioning)),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="The same, with the sizes.")],
        )

    @classmethod
    def execute(cls, conditioning: Any, **sizes: int) -> io.NodeOutput:
        given = SizeConditioning(**sizes).given()
        return io.NodeOutput(node_helpers.conditioning_set_values(conditioning, given))
