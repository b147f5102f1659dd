"""DCIClassImages: pictures of the class noun, drawn once by the base model, to regularize a training with."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.images.caption_file import without_marks
from ..dci_core.prompt.words import check_class_noun
from .host.concepts.store import class_image_root
from .host.model import HostModel
from .host.training.class_images import (
    DEFAULT_PROMPTS,
    ClassImagePlan,
    class_images,
    prompts_of,
)
from .host.training.progress import DrawingProgress
from .inputs import setting_input
from .sockets import TRAIN, found_by


class ClassImages(io.ComfyNode):
    """Draw class images, or find them again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIClassImages",
            display_name="DCI Class Images",
            category=TRAIN,
            description="Lets the base model draw pictures of the class noun, so that training on them beside your photographs "
            "keeps the model from forgetting the class. Each costs the time of one image, once: it is kept in "
            "models/dci_concepts/class_images, and the next run finds it.",
            search_aliases=found_by("regularization images", "prior preservation", "dreambooth"),
            inputs=[
                io.Model.Input("model", tooltip="The model that will be trained."),
                io.Clip.Input("clip", tooltip="Its CLIP."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                setting_input(ClassImagePlan, "class_noun", default="cat"),
                setting_input(ClassImagePlan, "count"),
                setting_input(ClassImagePlan, "prompts", default="\n".join(DEFAULT_PROMPTS), multiline=True),
                setting_input(ClassImagePlan, "seed", control_after_generate=False),
                setting_input(ClassImagePlan, "steps", optional=True, advanced=True),
                setting_input(ClassImagePlan, "cfg", round=0.01, optional=True, advanced=True),
                setting_input(ClassImagePlan, "negative_prompt", optional=True, advanced=True),
                setting_input(ClassImagePlan, "resolution", optional=True, advanced=True),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", is_output_list=True, tooltip="For ICO Trainer's regularization_images."
                ),
                io.String.Output(
                    display_name="captions",
                    is_output_list=True,
                    tooltip="A caption per image, for ICO Trainer's regularization_captions.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        class_noun: str,
        count: int,
        prompts: str,
        seed: int,
        **drawing: Any,
    ) -> io.NodeOutput:
        plan = ClassImagePlan(check_class_noun(class_noun), prompts_of(without_marks(prompts)), count, seed, **drawing)
        progress = DrawingProgress(count, "class image", cls.hidden.unique_id)
        images = class_images(HostModel(model, clip, vae), plan, class_image_root(), progress.on_picture)
        progress.on_end()
        return io.NodeOutput([entry.image[None] for entry in images], [entry.caption for entry in images])
