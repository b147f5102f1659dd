"""Apply DCI: a model patch, so that every sampler and guider of the host can sample with two branches."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.sampling.run_masks import KEPT_RUNS
from ..dci_core.sampling.settings import DCISettings
from .host.node_text import text_of_node
from .host.sampling.patch import apply_dci
from .sockets import SAMPLE, dci_inputs, found_by, masks_output


class ApplyDCI(io.ComfyNode):
    """Patch a MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIApply",
            display_name="Apply DCI",
            category=SAMPLE,
            description="Makes the model sample with two branches, with KSampler, SamplerCustomAdvanced and any guider. "
            "The positive conditioning must come from AuxPromptBuilder.",
            search_aliases=found_by("dual concept integration", "customization", "lambda"),
            inputs=[
                io.Model.Input("model", tooltip="The model that Apply Concept returns, or one with your LoRA."),
                *dci_inputs(),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the sampler; the model given in is not changed."),
                masks_output(
                    f"Blend masks of {KEPT_RUNS} runs with this model, for MaskVisualizer, which takes those of its image."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, **settings: Any) -> io.NodeOutput:
        patched, masks = apply_dci(model, DCISettings(**settings), tell=text_of_node(cls.hidden.unique_id))
        return io.NodeOutput(patched, masks)
