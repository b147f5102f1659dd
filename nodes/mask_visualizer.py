"""MaskVisualizer: the blend masks as a picture per map size and model call (the paper's figure 11), and as MASK."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..dci_core.pictures.mask_picture import Contrast, draw_inactive, draw_mask_grid
from ..dci_core.sampling.masks import BlendMasks, stretched
from ..dci_core.sampling.strength import MapScale
from .sockets import CATEGORY, MasksSocket

ALL = "all"


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
                io.Image.Input(
                    "image", tooltip="The decoded image of the same run; it makes this node wait for the sampler."
                ),
                io.Float.Input(
                    "overlay",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0: the masks alone. 1: the image, darkened where your subject rules.",
                ),
                io.Combo.Input(
                    "contrast",
                    options=[contrast.value for contrast in Contrast],
                    default=Contrast.STRETCHED.value,
                    tooltip="stretched: each map size from its least to its largest value, so that shapes show. "
                    "absolute: black is 0, white is 1, so that map sizes and runs compare.",
                ),
                io.Combo.Input(
                    "map_size",
                    options=[ALL, *(scale.value for scale in MapScale)],
                    default=ALL,
                    optional=True,
                    tooltip="Which maps to show and to average: all, or those whose edge is this share of the latent's.",
                ),
                io.Int.Input(
                    "call",
                    default=0,
                    min=0,
                    max=10000,
                    optional=True,
                    tooltip="Which model call to show and to average, by its number in the picture. 0: all.",
                ),
                io.Int.Input(
                    "head",
                    default=0,
                    min=0,
                    max=100,
                    optional=True,
                    tooltip="Which attention head to show and to average, from 1. 0: all.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="One picture per image of the batch."),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="The chosen masks averaged to one per image, of the image's size; contrast as chosen. White is "
                    "scene, black is subject.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        masks: BlendMasks,
        image: torch.Tensor,
        overlay: float,
        contrast: str,
        map_size: str = ALL,
        call: int = 0,
        head: int = 0,
    ) -> io.NodeOutput:
        if not masks.calls:
            notice = draw_inactive(image[0])[None]
            return io.NodeOutput(notice, torch.zeros(image.shape[:3]), ui=ui.PreviewImage(notice, cls=cls))
        chosen = masks.selected(None if map_size == ALL else MapScale(map_size), call, head)
        rows = range(max(1, min(masks.batch, image.shape[0])))
        pictures = torch.stack([draw_mask_grid(chosen, image[row], row, overlay, Contrast(contrast)) for row in rows])
        mask = chosen.average(image.shape[1], image.shape[2])
        mask = stretched(mask) if Contrast(contrast) is Contrast.STRETCHED else mask
        return io.NodeOutput(pictures, mask, ui=ui.PreviewImage(pictures, cls=cls))
