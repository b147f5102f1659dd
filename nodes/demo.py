"""DCIDemoModel and DCIDemoSubject: everything a first try needs, without a download."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.demo_model import find_subject, list_subjects, load_demo_model, subject_images
from .sockets import DEMO, found_by


class DemoModel(io.ComfyNode):
    """Load the bundled demo model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIDemoModel",
            display_name="DCI Demo Model",
            category=DEMO,
            description="A small text-to-image model that comes with this pack and runs in seconds on a processor. It "
            "draws 102 things in 24 places, 5 styles and 5 colours, at 256 x 256 pixels; its help page lists its words. "
            "Use it like any checkpoint.",
            search_aliases=found_by("demo checkpoint", "test model"),
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="SD1 layout, 16 million parameters, 256 x 256 pixels."),
                io.Clip.Output(display_name="clip", tooltip="Knows the words on the help page."),
                io.Vae.Output(display_name="vae", tooltip="Eight pixels to a latent, as SD1's."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_demo_model())


class DemoSubject(io.ComfyNode):
    """Load the reference images of a bundled subject."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = [subject.name for subject in list_subjects()]
        return io.Schema(
            node_id="DCIDemoSubject",
            display_name="DCI Demo Subject",
            category=DEMO,
            search_aliases=found_by("example images", "reference images"),
            description="Reference images of a subject that the demo model has never seen, and its class noun. "
            "Connect both to ICO Trainer.",
            inputs=[
                io.Combo.Input(
                    "subject",
                    options=names,
                    default=names[0],
                    tooltip="From much like what the demo model knows of its class to unlike it.",
                )
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="Six pictures, 256 x 256."),
                io.String.Output(display_name="class_noun", tooltip="The word the demo model knows for it."),
            ],
        )

    @classmethod
    def execute(cls, subject: str) -> io.NodeOutput:
        found = find_subject(subject)
        images = subject_images(found)
        return io.NodeOutput(images, found.class_noun, ui=ui.PreviewImage(images, cls=cls))
