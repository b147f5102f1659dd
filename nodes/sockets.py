"""Socket types and inputs that several nodes share, so that they are described once."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io

from ..dci_core.sampling.settings import AuxiliarySteps, Blend, DCISettings, Layers, MaskPreset
from ..dci_core.seeds import LARGEST_SEED

CATEGORY = "DCI"
ConceptSocket = io.Custom("DCI_CONCEPT")
MasksSocket = io.Custom("DCI_MASKS")
ScheduleSocket = io.Custom("DCI_STRENGTH_SCHEDULE")
LossMap = io.Custom("LOSS_MAP")


def sampler_inputs() -> list[io.Input]:
    """Return the inputs of the host's KSampler, but the model."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=LARGEST_SEED,
            control_after_generate=True,
            tooltip="Of the noise of both branches.",
        ),
        io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Denoising steps."),
        io.Float.Input(
            "cfg",
            default=7.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Guidance scale of both branches; 1 is without guidance.",
        ),
        io.Combo.Input(
            "sampler_name",
            options=comfy.samplers.KSampler.SAMPLERS,
            default="euler",
            tooltip="Any of the host's samplers; the auxiliary branch takes Euler steps of its own.",
        ),
        io.Combo.Input(
            "scheduler",
            options=comfy.samplers.KSampler.SCHEDULERS,
            default="normal",
            tooltip="How noise levels are spaced.",
        ),
        io.Conditioning.Input("positive", tooltip="From AuxPromptBuilder, also after ControlNet, area and mask nodes."),
        io.Conditioning.Input("negative", tooltip="Any conditioning."),
        io.Latent.Input("latent_image", tooltip="What to denoise."),
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="1 starts from noise; lower keeps more of the latent given in.",
        ),
    ]


def dci_inputs() -> list[io.Input]:
    """Return the inputs of the two-branch part; their ids are the fields of ``DCISettings``."""
    neutral = DCISettings()
    return [
        io.Float.Input(
            "injection_strength",
            display_name="injection strength λ",
            default=neutral.injection_strength,
            min=-10.0,
            max=10.0,
            step=0.05,
            tooltip="The dial. -2 keeps to your subject (the scene has a fifth of the say), 0 is the middle of likeness and "
            "obedience (a third), 2 lets the scene of the prompt speak (two thirds). To switch DCI off, set active_fraction to 0.",
        ),
        io.Float.Input(
            "active_fraction",
            display_name="active fraction T_a",
            default=neutral.active_fraction,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of the denoising, from its noisy start, in which the auxiliary branch runs. Higher changes "
            "more and costs more: 0.2 of 20 steps are 4 steps with two branches. The paper has 0.15 of 200, its code 0.2 and 0.3; 0 is plain sampling, bit for bit.",
        ),
        io.Boolean.Input(
            "share_guidance",
            default=neutral.share_guidance,
            tooltip="On: the auxiliary branch uses the concept branch's unconditional prediction (3 rows per active "
            "step, the published default). Off: it computes its own (4 rows).",
            advanced=True,
        ),
        io.Combo.Input(
            "mask_preset",
            options=[preset.value for preset in MaskPreset],
            default=neutral.mask_preset.value,
            tooltip="How token attention becomes masks. calibrated: λ means the same on every model and at every size. "
            "reference: the published code's constants, which fit SD1.5 at 512 pixels (there both are the same). resolution_normalized: "
            "these, independent of image size. paper: the formulas taken literally; masks stay near one half.",
            advanced=True,
        ),
        io.Combo.Input(
            "blend",
            options=[blend.value for blend in Blend],
            default=neutral.blend.value,
            tooltip="masks: blend by token masks. sum, mean: the paper's ablation without masks, and its average.",
            advanced=True,
        ),
        io.Combo.Input(
            "layers",
            options=[layers.value for layers in Layers],
            default=neutral.layers.value,
            tooltip="all: every cross-attention layer. last: only the last one, the paper's ablation.",
            advanced=True,
        ),
        io.Boolean.Input(
            "share_noise",
            default=neutral.share_noise,
            tooltip="Off: the auxiliary branch starts from its own noise. On: from the concept branch's.",
            advanced=True,
        ),
        io.Combo.Input(
            "auxiliary_steps",
            options=[steps.value for steps in AuxiliarySteps],
            default=neutral.auxiliary_steps.value,
            optional=True,
            tooltip="How the auxiliary branch gets from one model call to the next. fine: by steps as short as the published "
            "code's 200, at no cost. single: by one step, as the published code does; with few steps and shared guidance it "
            "leaves the range the model knows.",
            advanced=True,
        ),
        io.Float.Input(
            "auxiliary_eta",
            default=neutral.auxiliary_eta,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip="New noise at each step of the auxiliary branch: 0 none, 1 as much as an ancestral sampler (the published "
            "code's default).",
            advanced=True,
        ),
        ScheduleSocket.Input(
            "strength_schedule",
            optional=True,
            tooltip="From DCI Strength Schedule: λ by map size and over time. Unconnected: the same λ everywhere.",
        ),
        io.Mask.Input(
            "auxiliary_mask",
            optional=True,
            tooltip="Where the scene may speak: white is as ever, black is your subject's branch alone. Of any size; it is "
            "stretched over the image. Unconnected: everywhere.",
        ),
    ]


def masks_output() -> io.Output:
    """Return the output for the blend masks of a run."""
    return MasksSocket.Output(
        display_name="masks", tooltip="Blend masks of the latest run with this model, for MaskVisualizer."
    )
