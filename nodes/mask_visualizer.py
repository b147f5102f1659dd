"""MaskVisualizer: the blend masks as a picture per map size and model call (the paper's figure 11)."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..dci_core.mask_picture import Contrast, draw_inactive, draw_mask_grid
from ..dci_core.masks import BlendMasks
from .sockets import CATEGORY, MasksSocket


class MaskVisualizer(io.ComfyNode):
    """Draw the masks of the latest run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskVisualizer",
            display_name="Mask Visualizer",
            category=CATEGORY,
            description="Shows where the auxiliary branch spoke: one row per map size, one column per model call. "
            "Brighter is more scene, darker more subject. Small maps place objects, large maps carry style.",
            inputs=[
                MasksSocket.Input("masks", tooltip="From DCISampler or Apply DCI."),
                io.Image.Input("image", tooltip="The decoded image of the same run; it makes this node wait for the sampler."),
                io.Float.Input(
                    "overlay", default=0.0, min=0.0, max=1.0, step=0.05,
                    tooltip="0: the masks alone. 1: the image, darkened where your subject rules.",
                ),
                io.Combo.Input(
                    "contrast", options=[contrast.value for contrast in Contrast], default=Contrast.STRETCHED.value,
                    tooltip="stretched: each map size from its least to its largest value, so that shapes show. "
                    "absolute: black is 0, white is 1, so that map sizes and runs compare.",
                ),
            ],
            outputs=[io.Image.Output(display_name="picture", tooltip="One picture per image of the batch.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, masks: BlendMasks, image: torch.Tensor, overlay: float, contrast: str) -> io.NodeOutput:
        if not masks.calls:
            notice = draw_inactive(image[0])[None]
            return io.NodeOutput(notice, ui=ui.PreviewImage(notice, cls=cls))
        rows = range(max(1, min(masks.batch, image.shape[0])))
        pictures = torch.stack([draw_mask_grid(masks, image[row], row, overlay, Contrast(contrast)) for row in rows])
        return io.NodeOutput(pictures, ui=ui.PreviewImage(pictures, cls=cls))
