"""DCISampler: the host's KSampler on a model patched with DCI, in one node."""

from __future__ import annotations

from typing import Any

import nodes as host_nodes
from comfy_api.latest import io

from ..dci_core.sampling.settings import DCISettings
from .host.node_text import text_of_node
from .host.sampling.patch import apply_dci
from .sockets import SAMPLE, dci_inputs, found_by, masks_output, sampler_inputs


class DCISampler(io.ComfyNode):
    """Sample with two branches."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCISampler",
            display_name="DCI Sampler",
            category=SAMPLE,
            description="KSampler with two branches: your subject, and the scene of the prompt. The same image as "
            "Apply DCI followed by KSampler with the same settings.",
            search_aliases=found_by("ksampler", "customization", "lambda"),
            inputs=[
                io.Model.Input("model", tooltip="The model that Apply Concept returns, or one with your LoRA."),
                *sampler_inputs(),
                *dci_inputs(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The denoised latent."),
                masks_output("Blend masks of this run, for MaskVisualizer."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        denoise: float,
        **settings: Any,
    ) -> io.NodeOutput:
        patched, masks = apply_dci(model, DCISettings(**settings), tell=text_of_node(cls.hidden.unique_id))
        (latent,) = host_nodes.common_ksampler(
            patched, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise=denoise
        )
        return io.NodeOutput(latent, masks.latest)
