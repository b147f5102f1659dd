"""DCISampler: the host's KSampler on a model patched with DCI, in one node."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import nodes as host_nodes
from comfy_api.latest import io

from ..dci_core.settings import DCISettings
from .host.sampling import apply_dci
from .sockets import CATEGORY, LARGEST_SEED, dci_inputs, masks_output


class DCISampler(io.ComfyNode):
    """Sample with two branches."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCISampler",
            display_name="DCI Sampler",
            category=CATEGORY,
            description="KSampler with two branches: your subject, and the scene of the prompt. The same image as "
            "Apply DCI followed by KSampler with the same settings.",
            search_aliases=["ksampler", "customization", "lambda"],
            inputs=[
                io.Model.Input("model", tooltip="The model that Apply Concept returns."),
                io.Int.Input(
                    "seed", default=0, min=0, max=LARGEST_SEED, control_after_generate=True,
                    tooltip="Of the noise of both branches.",
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Denoising steps."),
                io.Float.Input(
                    "cfg", default=7.0, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Guidance scale of both branches; 1 is without guidance.",
                ),
                io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler",
                               tooltip="Any of the host's samplers; the auxiliary branch takes Euler steps of its own."),
                io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="normal",
                               tooltip="How noise levels are spaced."),
                io.Conditioning.Input("positive", tooltip="From AuxPromptBuilder, also after ControlNet, area and mask nodes."),
                io.Conditioning.Input("negative", tooltip="Any conditioning."),
                io.Latent.Input("latent_image", tooltip="What to denoise."),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="1 starts from noise; lower keeps more of the latent given in.",
                ),
                *dci_inputs(),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The denoised latent."), masks_output()],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Any, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str, positive: Any,
        negative: Any, latent_image: dict[str, Any], denoise: float, **settings: Any,
    ) -> io.NodeOutput:  # fmt: skip
        patched, masks = apply_dci(model, DCISettings(**settings))
        (latent,) = host_nodes.common_ksampler(
            patched, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise=denoise
        )
        return io.NodeOutput(latent, masks)
