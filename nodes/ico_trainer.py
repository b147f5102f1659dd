"""ICOTrainer: fine-tune a model on a few reference images, inside the graph."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..dci_core.pictures.loss_curve import draw_loss_curve
from ..dci_core.prompt.words import check_class_noun, check_placeholder
from ..dci_core.training.presets import PresetName
from ..dci_core.training.report import start_text
from ..dci_core.training.settings import TrainingSettings
from .host.concepts.store import training_root
from .host.later_prompts import check_later_prompts
from .host.model import HostModel
from .host.training.inputs import (
    Crop,
    TrainingInputs,
    captions_from,
    images_from,
    masks_from,
    one_caption_each,
    unused_captions,
)
from .host.training.model_scale import values_for
from .host.training.preview import PreviewPlan
from .host.training.progress import TrainingProgress
from .host.training.trainer import Storage, train_concept
from .inputs import setting_input, tooltip_of
from .sockets import TRAIN, CheckpointsSocket, ConceptSocket, LossMap, TrainingSettingsSocket, found_by
from .training_inputs import (
    checkpoint_plan,
    from_nodes,
    given_settings,
    keep_contexts_input,
    keep_state_input,
    length_and_rate_inputs,
    preset_input,
    preset_values,
    preview_inputs,
    scheme_inputs,
    setting_inputs,
    storage_inputs,
    unseen,
)

_LINES: dict[str, Any] = {"default": "", "multiline": True, "optional": True}


class ICOTrainer(io.ComfyNode):
    """Train a concept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ICOTrainer",
            display_name="ICO Trainer",
            category=TRAIN,
            description="Teaches the model your subject from a few photographs: the K and V weights of its "
            "cross-attention, and a few vectors that become V*. Everything else stays as it is.",
            search_aliases=found_by(
                *("train", "fine-tune", "lora training", "dreambooth", "custom diffusion", "textual inversion"),
                *("subject", "personalize", "personalise", "customize", "character", "face", "person", "style", "pet"),
            ),
            is_input_list=True,
            inputs=unseen(cls._inputs()),
            outputs=[
                ConceptSocket.Output(display_name="concept", tooltip="For Save Concept and Apply Concept."),
                LossMap.Output(display_name="loss_map", tooltip="Loss of every step, for Plot Loss Graph."),
                io.Image.Output(
                    display_name="loss_curve", tooltip="Loss of the steps and on fixed noise, the best step marked."
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def _inputs(cls) -> list[io.Input]:
        """All of them, in the order in which graphs hold their values: new ones come last."""
        return [
            io.Model.Input(
                "model", tooltip="An SD1.x, SD2.x or SDXL model; LoRAs on it are trained along as they are."
            ),
            io.Clip.Input("clip", tooltip="Its CLIP."),
            io.Vae.Input("vae", tooltip="Its VAE."),
            io.Image.Input("images", tooltip=tooltip_of(TrainingInputs, "images")),
            setting_input(TrainingInputs, "class_noun", default="cat"),
            *scheme_inputs(),
            *length_and_rate_inputs(),
            setting_input(TrainingSettings, "seed", control_after_generate=False),
            setting_input(TrainingInputs, "resolution"),
            setting_input(TrainingSettings, "flip", optional=True),
            setting_input(TrainingInputs, "placeholder", optional=True),
            keep_contexts_input(),
            io.Image.Input(
                "regularization_images", optional=True, tooltip=tooltip_of(TrainingInputs, "regularization_images")
            ),
            setting_input(TrainingInputs, "regularization_captions", **_LINES),
            io.Mask.Input("masks", optional=True, tooltip=tooltip_of(TrainingInputs, "masks")),
            setting_input(TrainingInputs, "crop", optional=True),
            *setting_inputs(),
            *storage_inputs(),
            *preview_inputs(),
            setting_input(TrainingInputs, "captions", **_LINES),
            preset_input(),
            keep_state_input(),
            TrainingSettingsSocket.Input("settings", optional=True, tooltip="From DCI Training Settings."),
            CheckpointsSocket.Input("checkpoints", optional=True, tooltip="From DCI Checkpoints."),
        ]

    @classmethod
    def execute(
        cls,
        images: list[torch.Tensor],
        masks: list[torch.Tensor] | None = None,
        regularization_images: list[torch.Tensor] | None = None,
        regularization_captions: list[str] | None = None,
        captions: list[str] | None = None,
        **single: list[Any],
    ) -> io.NodeOutput:
        own = {name: values[0] for name, values in single.items()}
        given = [own.pop(name) for name in ("settings", "checkpoints") if name in own]
        value = from_nodes(own, given, {entry.id: getattr(entry, "default", None) for entry in cls._inputs()})
        class_noun = check_class_noun(value["class_noun"])
        placeholder = value.get("placeholder", TrainingInputs.placeholder)
        check_placeholder(placeholder, class_noun)
        check_later_prompts(cls.hidden.prompt or {}, cls.hidden.unique_id or "", placeholder, class_noun)
        preset = PresetName(value.get("preset", PresetName.WITH_DCI))
        base = HostModel(value["model"], value["clip"], value["vae"])
        chosen = values_for(base, preset, preset_values(value))
        flip = value.get("flip", TrainingSettings.flip)
        settings = TrainingSettings(**chosen.settings, flip=flip, seed=value["seed"], **given_settings(value))
        plan = checkpoint_plan(value, chosen)
        references, class_images = images_from(images), images_from(regularization_images)
        inputs = TrainingInputs(
            images=references,
            class_noun=class_noun,
            regularization_images=class_images,
            regularization_captions=one_caption_each(regularization_captions, len(class_images), class_noun),
            resolution=value["resolution"],
            masks=masks_from(masks),
            crop=Crop(value.get("crop", Crop.CENTER)),
            captions=captions_from(captions, len(references)),
            placeholder=placeholder,
            keep_contexts=value.get("keep_contexts", TrainingInputs.keep_contexts),
        )
        progress = TrainingProgress(settings.steps, cls.hidden.unique_id)
        remarks = inputs.remarks(base.family.resolution(inputs.resolution))
        remarks += unused_captions(regularization_captions, len(class_images))
        progress.announce("\n".join([start_text(chosen, preset, settings, len(class_images)), *remarks]))
        concept, losses = train_concept(
            base,
            inputs,
            settings,
            storage=Storage(training_root(), plan, value.get("reuse", True)),
            preview=PreviewPlan(value.get("preview_every", 0), value.get("preview_prompt", "")),
            observer=progress,
        )
        curve = draw_loss_curve(losses, concept.info.history.get("evaluations", ()))
        return io.NodeOutput(concept, {"loss": losses}, curve)
