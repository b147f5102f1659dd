"""Load Image Folder: reference or class images with masks and captions."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.images.folder import ENDINGS, read_image_folder
from .host.input_folder import find_input_folder, fingerprint, list_input_folders
from .sockets import CATEGORY


class LoadImageFolder(io.ComfyNode):
    """Read a folder of images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCILoadImageFolder",
            display_name="Load Image Folder",
            category=CATEGORY,
            description="Loads every image of a folder inside ComfyUI's input folder, upright, in order of names, with masks "
            'and captions: "cat_mask.png" or the image\'s transparency, and "cat.txt".',
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=list_input_folders(),
                    tooltip=f"A folder in ComfyUI's input folder, with images ({', '.join(ENDINGS)}).",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", is_output_list=True, tooltip="A list of images of any sizes."),
                io.Mask.Output(
                    display_name="masks",
                    is_output_list=True,
                    tooltip="A mask per image, white where it counts; all white without.",
                ),
                io.String.Output(display_name="captions", is_output_list=True, tooltip='A caption per image, or "".'),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str, **_: Any) -> str:
        return fingerprint(find_input_folder(folder))

    @classmethod
    def execute(cls, folder: str) -> io.NodeOutput:
        found = read_image_folder(find_input_folder(folder))
        images = [entry.image[None] for entry in found]
        return io.NodeOutput(images, [entry.mask[None] for entry in found], [entry.caption for entry in found])
