"""Socket types and inputs that several nodes share, so that they are described once."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io

from ..dci_core.sampling.settings import DCISettings
from ..dci_core.seeds import LARGEST_SEED
from .inputs import setting_input, tooltip_of

TRAIN, SAMPLE, DEMO = (f"DCI/{part}" for part in ("train", "sample", "demo"))
"""Categories of the nodes."""
ConceptSocket = io.Custom("DCI_CONCEPT")
MasksSocket = io.Custom("DCI_MASKS")
ScheduleSocket = io.Custom("DCI_STRENGTH_SCHEDULE")
LossMap = io.Custom("LOSS_MAP")
TrainingSettingsSocket = io.Custom("DCI_TRAINING_SETTINGS")
CheckpointsSocket = io.Custom("DCI_CHECKPOINTS")


def found_by(*words: str) -> list[str]:
    """Return what the host's search finds a node by, beside its name: the pack's name, and these words."""
    return ["dci", *words]


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
    rare = ("share_guidance", "mask_preset", "blend", "layers", "share_noise", "auxiliary_steps", "auxiliary_eta")
    return [
        setting_input(
            DCISettings, "injection_strength", display_name="injection_strength λ", display_mode=io.NumberDisplay.slider
        ),
        setting_input(DCISettings, "active_fraction", display_name="active_fraction T_a"),
        *(setting_input(DCISettings, name, optional=True, advanced=True) for name in rare),
        ScheduleSocket.Input("strength_schedule", optional=True, tooltip=tooltip_of(DCISettings, "strength_schedule")),
        io.Mask.Input("auxiliary_mask", optional=True, tooltip=tooltip_of(DCISettings, "auxiliary_mask")),
    ]


def masks_output(tooltip: str) -> io.Output:
    """Return the output for blend masks."""
    return MasksSocket.Output(display_name="masks", tooltip=tooltip)
