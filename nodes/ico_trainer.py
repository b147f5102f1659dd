"""ICOTrainer: fine-tune a model on a few reference images, inside the graph."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..dci_core.concept.scheme import MOST_VECTORS
from ..dci_core.pictures.loss_curve import draw_loss_curve
from ..dci_core.prompt.words import check_class_noun, check_placeholder
from ..dci_core.seeds import LARGEST_SEED
from ..dci_core.training.presets import AS_PRESET, PresetName
from ..dci_core.training.report import start_text
from ..dci_core.training.settings import TrainingSettings
from .host.concepts.store import training_root
from .host.training.inputs import Crop, TrainingInputs
from .host.training.model_scale import values_for
from .host.training.preview import PreviewPlan
from .host.training.progress import TrainingProgress
from .host.training.trainer import Storage, captions_from, images_from, masks_from, one_caption_each, train_concept
from .sockets import CATEGORY, ConceptSocket, LossMap
from .training_inputs import (
    checkpoint_plan,
    given_settings,
    of_presets,
    preset_input,
    preset_values,
    preview_inputs,
    setting_inputs,
    storage_inputs,
)


class ICOTrainer(io.ComfyNode):
    """Train a concept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        neutral = TrainingSettings()
        return io.Schema(
            node_id="ICOTrainer",
            display_name="ICO Trainer",
            category=CATEGORY,
            description="Teaches the model your subject from a few photographs: the K and V weights of its "
            "cross-attention, and a few vectors that become V*. Everything else stays as it is.",
            search_aliases=["train", "fine-tune", "dreambooth", "custom diffusion", "textual inversion"],
            is_input_list=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="An SD1.x, SD2.x or SDXL model; LoRAs on it are trained along as they are."
                ),
                io.Clip.Input("clip", tooltip="Its CLIP."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.Image.Input(
                    "images",
                    tooltip="Reference images, 4 to 8 are usual: a batch, or a list of any sizes. Their centre square is used.",
                ),
                io.String.Input(
                    "class_noun",
                    default="cat",
                    tooltip='The plain word for what your subject is, such as "cat" or "tortoise plushy".',
                ),
                io.Int.Input(
                    "contexts_before",
                    display_name="contexts before (M)",
                    default=AS_PRESET,
                    min=AS_PRESET,
                    max=MOST_VECTORS,
                    tooltip="Image-specific vectors in front of V*: they take up what is peculiar to each photograph. "
                    "-1 is the preset's: 1 when DCI is used, 4 without.",
                ),
                io.Int.Input(
                    "contexts_after",
                    display_name="contexts after (L)",
                    default=AS_PRESET,
                    min=AS_PRESET,
                    max=MOST_VECTORS,
                    tooltip="Image-specific vectors behind the noun. -1 is the preset's: 1 when DCI is used, 2 without.",
                ),
                io.Int.Input(
                    "concept_vectors",
                    display_name="concept vectors (S)",
                    default=AS_PRESET,
                    min=AS_PRESET,
                    max=MOST_VECTORS,
                    tooltip="Vectors that V* stands for. More raise likeness and lower obedience. "
                    "-1 is the preset's: 3 when DCI is used, 2 without.",
                ),
                io.Int.Input(
                    "steps",
                    default=AS_PRESET,
                    min=AS_PRESET,
                    max=100000,
                    tooltip="Optimiser steps. More raise likeness and cost obedience: with DCI, which gives it back, take the end of "
                    f"the run; without, an early checkpoint. {of_presets('steps')}",
                ),
                io.Int.Input(
                    "batch_size",
                    default=AS_PRESET,
                    min=AS_PRESET,
                    max=64,
                    tooltip="Reference images per step; as many regularization images are added where given. "
                    f"{of_presets('batch_size')}",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=float(AS_PRESET),
                    min=float(AS_PRESET),
                    max=1.0,
                    step=1e-6,
                    round=False,
                    tooltip="Final rate of K, V and V*; nothing multiplies it. -1 is derived from the model: 6e-5 for SD1.x.",
                ),
                io.Float.Input(
                    "context_learning_rate",
                    default=float(AS_PRESET),
                    min=float(AS_PRESET),
                    max=1.0,
                    step=1e-6,
                    round=False,
                    tooltip="Final rate of the image-specific vectors. -1 is derived from the model: about "
                    "6e-4 for SD1.x.",
                    advanced=True,
                ),
                io.Int.Input(
                    "seed",
                    default=neutral.seed,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=False,
                    tooltip="Same seed, same concept.",
                ),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=2048,
                    step=8,
                    tooltip="Edge of the training images in pixels; 0 is the model's own (512, 768 or 1024).",
                ),
                io.Boolean.Input(
                    "flip",
                    default=neutral.flip,
                    advanced=True,
                    tooltip="Mirror images at random. Off for subjects with writing or a fixed side.",
                ),
                io.String.Input(
                    "placeholder",
                    default="V*",
                    advanced=True,
                    tooltip="How prompts will call the subject. "
                    "Changing it trains anew; Apply Concept can rename instead.",
                ),
                io.Boolean.Input(
                    "keep_contexts",
                    default=False,
                    advanced=True,
                    tooltip="Keep the image-specific vectors in the concept, for inspection. Changing it trains anew.",
                ),
                io.Image.Input(
                    "regularization_images",
                    optional=True,
                    tooltip="Other pictures of the class, so that the model does not forget it: DCI's auxiliary noun needs a model "
                    "that still knows its class. DCI Class Images draws them.",
                ),
                io.String.Input(
                    "regularization_captions",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="A caption per regularization image, one per line, or one for all; empty: "
                    '"photo of a <class noun>".',
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="A mask per reference image, white where it counts: the rest is not learned. Invert the mask of Load Image; "
                    "that of Load Image Folder fits as it is.",
                ),
                io.Combo.Input(
                    "crop",
                    options=[crop.value for crop in Crop],
                    default=Crop.CENTER.value,
                    optional=True,
                    advanced=True,
                    tooltip="center: centre squares. buckets: whole images, in the nearest of "
                    "several proportions with the same area.",
                ),
                *setting_inputs(),
                *storage_inputs(),
                *preview_inputs(),
                io.String.Input(
                    "captions",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip='What is around the subject in each reference image, such as "on a wooden table", so that '
                    "it is not learned as part of it: one per line, or one for all; empty: none. Without V* and noun.",
                ),
                preset_input(),
            ],
            outputs=[
                ConceptSocket.Output(display_name="concept", tooltip="For Save Concept and Apply Concept."),
                LossMap.Output(display_name="loss_map", tooltip="Loss of every step, for Plot Loss Graph."),
                io.Image.Output(
                    display_name="loss_curve", tooltip="Loss of the steps and on fixed noise, the best step marked."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

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
        value = {name: values[0] for name, values in single.items()}
        class_noun = check_class_noun(value["class_noun"])
        check_placeholder(value["placeholder"], class_noun)
        preset = PresetName(value.get("preset", PresetName.WITH_DCI))
        chosen = values_for(value["model"], value["clip"], preset, preset_values(value))
        settings = TrainingSettings(**chosen.settings, flip=value["flip"], seed=value["seed"], **given_settings(value))
        plan = checkpoint_plan(value, chosen)
        references, class_images = images_from(images), images_from(regularization_images)
        inputs = TrainingInputs(
            images=references,
            class_noun=class_noun,
            regularization_images=class_images,
            regularization_captions=one_caption_each(regularization_captions, len(class_images), class_noun),
            resolution_px=value["resolution"],
            masks=masks_from(masks),
            crop=Crop(value.get("crop", Crop.CENTER)),
            captions=captions_from(captions, len(references)),
        )
        progress = TrainingProgress(settings.steps, cls.hidden.unique_id)
        progress.announce(start_text(chosen, preset, settings, len(class_images)))
        concept, losses = train_concept(
            value["model"],
            value["clip"],
            value["vae"],
            inputs,
            settings,
            progress.on_step,
            placeholder=value["placeholder"],
            keep_contexts=value["keep_contexts"],
            storage=Storage(training_root(), plan, value.get("reuse", True)),
            preview=PreviewPlan(value.get("preview_every", 0), value.get("preview_prompt", "")),
            on_preview=progress.on_preview,
            tell=progress.tell,
        )
        curve = draw_loss_curve(losses, concept.info.history.get("evaluations", ()))
        return io.NodeOutput(concept, {"loss": losses}, curve)
