"""DCIClassImages: pictures of the class noun, drawn once by the base model, to regularize a training with."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.prompt.words import check_class_noun
from ..dci_core.seeds import LARGEST_SEED
from .host.concepts.store import class_image_root
from .host.training.class_images import (
    DEFAULT_COUNT,
    DEFAULT_PROMPTS,
    MOST_CLASS_IMAGES,
    ClassImagePlan,
    class_images,
    prompts_of,
)
from .host.training.progress import DrawingProgress
from .sockets import CATEGORY


class ClassImages(io.ComfyNode):
    """Draw class images, or find them again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIClassImages",
            display_name="DCI Class Images",
            category=CATEGORY,
            description="Lets the base model draw pictures of the class noun, so that training on them beside your photographs "
            "keeps the model from forgetting the class. Each costs the time of one image, once: it is kept in "
            "models/dci_concepts/class_images, and the next run finds it.",
            search_aliases=["regularization images", "prior preservation", "dreambooth"],
            inputs=[
                io.Model.Input("model", tooltip="The model that will be trained."),
                io.Clip.Input("clip", tooltip="Its CLIP."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.String.Input("class_noun", default="cat", tooltip="The same as in ICO Trainer."),
                io.Int.Input(
                    "count",
                    default=DEFAULT_COUNT,
                    min=1,
                    max=MOST_CLASS_IMAGES,
                    tooltip="How many. 100 are measured to do; the node says how long they take. A larger count later "
                    "keeps those that are there.",
                ),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="\n".join(DEFAULT_PROMPTS),
                    tooltip="One per line, taken in turn; they become the captions. <class noun> stands for the class "
                    'noun. Different scenes keep more of the model. Empty: "photo of a <class noun>".',
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=False,
                    tooltip="Of the first picture; each following one has the next seed.",
                ),
                io.Int.Input(
                    "steps", default=25, min=1, max=1000, tooltip="Of the sampler (euler, normal).", advanced=True
                ),
                io.Float.Input(
                    "cfg",
                    default=7.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    advanced=True,
                    tooltip="Scale of guidance; 1 is none.",
                ),
                io.String.Input(
                    "negative_prompt", default="", advanced=True, tooltip="What the pictures should not show."
                ),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=2048,
                    step=8,
                    advanced=True,
                    tooltip="Edge in pixels; 0 is the model's own (512, 768 or 1024).",
                ),
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
        steps: int,
        cfg: float,
        negative_prompt: str,
        resolution: int,
    ) -> io.NodeOutput:
        plan = ClassImagePlan(
            check_class_noun(class_noun), prompts_of(prompts), count, seed, steps, cfg, negative_prompt, resolution
        )
        progress = DrawingProgress(count, "class image", cls.hidden.unique_id)
        images = class_images(model, clip, vae, plan, class_image_root(), progress.on_picture)
        progress.on_end()
        return io.NodeOutput([entry.image[None] for entry in images], [entry.caption for entry in images])
