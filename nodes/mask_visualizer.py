"""MaskVisualizer: the blend masks of a run as a picture, averaged or one by one (the paper's figure 11), and as MASK."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from comfy_api.latest import io, ui

from ..dci_core.pictures.mask_picture import INACTIVE, Contrast, View, draw_inactive, draw_masks
from ..dci_core.sampling.masks import BlendMasks, stretched
from ..dci_core.sampling.run_masks import PictureSource, RunMasks, masks_of, remark_on_later_samplers
from ..dci_core.sampling.strength import MapScale
from .host.executing import executing_place, output_type
from .host.lineage import lineage_of
from .host.node_text import announce, text_of_node
from .sockets import SAMPLE, MasksSocket, found_by

ALL = "all"
UNCONNECTED = (
    "No masks are connected.",
    "They come from DCI Sampler or Apply DCI; behind a bypassed",
    "node there are none.",
)


class MaskVisualizer(io.ComfyNode):
    """Draw the masks of the run that made a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskVisualizer",
            display_name="Mask Visualizer",
            category=SAMPLE,
            search_aliases=found_by("attention map", "heatmap", "preview masks"),
            description="Shows, in two colours over the image, where your subject had the say and where the scene had it.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The image of the same run, as the VAE decodes it: from before it is scaled or pasted. Its run is "
                    "found through the graph.",
                ),
                io.Float.Input(
                    "overlay",
                    default=0.7,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0: the two colours alone. 1: the image, tinted with them.",
                ),
                io.Combo.Input(
                    "contrast",
                    options=[contrast.value for contrast in Contrast],
                    default=Contrast.STRETCHED.value,
                    tooltip="stretched: each map size from its least to its largest value, so that shapes show. "
                    "absolute: from 0 to 1, so that map sizes and runs compare.",
                ),
                MasksSocket.Input(
                    "masks",
                    optional=True,
                    tooltip="From DCISampler or Apply DCI. Without it, as behind a bypassed Apply DCI, the picture says so.",
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
                io.Int.Input(
                    "row",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip="0: the images are all those of the run. Otherwise the number in the run's batch, from 1, of the "
                    "one image to show, as after ImageFromBatch.",
                ),
                io.Combo.Input(
                    "view",
                    options=[view.value for view in View],
                    default=View.AVERAGE.value,
                    optional=True,
                    tooltip="average: one map beside the image. every call: a row for each map size, a column for each model call; "
                    "small maps place objects, large maps carry style.",
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
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        overlay: float,
        contrast: str,
        masks: BlendMasks | RunMasks | None = None,
        map_size: str = ALL,
        call: int = 0,
        head: int = 0,
        row: int = 0,
        view: str = View.AVERAGE.value,
    ) -> io.NodeOutput:
        if masks is None:
            return cls._notice(image, UNCONNECTED)
        lineage = lineage_of(cls.hidden.prompt or {}, cls.hidden.unique_id or "", output_type)
        images, height, width = image.shape[:3]
        source = PictureSource(images, height, width, row, lineage, executing_place())
        found = masks_of(source, masks)
        remark = remark_on_later_samplers(source, masks, found)
        if remark is not None:
            announce(remark, text_of_node(cls.hidden.unique_id))
        image = source.wanted(image)
        if not found.calls:
            return cls._notice(image, INACTIVE)
        chosen = found.selected(None if map_size == ALL else MapScale(map_size), call, head, row)
        draw = partial(draw_masks, View(view), chosen, overlay=overlay, contrast=Contrast(contrast))
        pictures = torch.stack([draw(each, number) for number, each in enumerate(image)])
        mask = chosen.average(image.shape[1], image.shape[2])
        mask = stretched(mask) if Contrast(contrast) is Contrast.STRETCHED else mask
        return io.NodeOutput(pictures, mask, ui=ui.PreviewImage(pictures, cls=cls))

    @classmethod
    def _notice(cls, image: torch.Tensor, lines: Sequence[str]) -> io.NodeOutput:
        """What there is to show where there are no masks."""
        notice = draw_inactive(image[0], lines)[None]
        return io.NodeOutput(notice, torch.zeros(image.shape[:3]), ui=ui.PreviewImage(notice, cls=cls))
