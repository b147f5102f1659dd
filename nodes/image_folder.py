"""Load Image Folder: reference or class images with masks and captions."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..dci_core.images.crop import thumbnail
from ..dci_core.images.folder import read_and_report
from .host.input_folder import find_input_folder, fingerprint, list_input_folders
from .host.node_text import announce, text_of_node
from .sockets import TRAIN, found_by

MOST_SHOWN, SHOWN_PX = 24, 256
"""Of the pictures that the node shows: how many, and their longer edge."""


class LoadImageFolder(io.ComfyNode):
    """Read a folder of images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCILoadImageFolder",
            display_name="Load Image Folder",
            category=TRAIN,
            search_aliases=found_by("load images from directory", "reference images", "dataset"),
            description="Loads every image of a folder inside ComfyUI's input folder, upright, in order of names, with masks "
            'and captions: "cat_mask.png" or the image\'s transparency, and "cat.txt" or "cat.caption". The node says what it '
            "found and what it left out.",
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=list_input_folders(),
                    tooltip="A folder in ComfyUI's input folder, with images of any kind that Pillow opens: .png, .jpg, .webp, "
                    ".gif, .tif, .bmp, .avif and others.",
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
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str, **_: Any) -> str:
        return fingerprint(find_input_folder(folder))

    @classmethod
    def execute(cls, folder: str) -> io.NodeOutput:
        found, said = read_and_report(find_input_folder(folder))
        announce(said, text_of_node(cls.hidden.unique_id))
        images = [entry.image[None] for entry in found]
        masks, captions = [entry.mask[None] for entry in found], [entry.caption for entry in found]
        shown = [thumbnail(entry.image, SHOWN_PX) for entry in found[:MOST_SHOWN]]
        return io.NodeOutput(images, masks, captions, ui=ui.PreviewImage(shown, cls=cls))
