"""LambdaSweep: one run of DCISampler for each λ of a list, as a labelled picture; the shared work is done once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nodes as host_nodes
import torch
from comfy_api.latest import io, ui

from ..dci_core.errors import UserInputError
from ..dci_core.images.crop import image_of_thumbnail
from ..dci_core.pictures.sweep import PLAIN_LABEL, draw_sweep, strength_label
from ..dci_core.sampling.settings import DCISettings
from ..dci_core.sampling.strength import parse_injection_strengths
from ..dci_core.seeds import following_seed
from .host.carried import carried_thumbnails
from .host.executing import check_batch
from .host.node_text import Tell, text_of_each, text_of_node
from .host.sampling.auxiliary_memory import AuxiliaryMemory
from .host.sampling.patch import apply_dci
from .sockets import SAMPLE, dci_inputs, found_by, sampler_inputs


class LambdaSweep(io.ComfyNode):
    """Sample without DCI, then with each λ."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCILambdaSweep",
            display_name="DCI Lambda Sweep",
            category=SAMPLE,
            description="Finds your λ in one queue: the same seed without DCI and with every λ of the list, side by side. "
            "Each image is what DCI Sampler gives with that λ, bit for bit.",
            search_aliases=found_by("xy plot", "grid", "injection strength", "lambda"),
            inputs=[
                io.Model.Input("model", tooltip="The model that Apply Concept returns, or one with your LoRA."),
                io.Vae.Input("vae", tooltip="Decodes the images."),
                *sampler_inputs(),
                io.String.Input(
                    "injection_strengths",
                    display_name="injection_strengths λ",
                    default="-2, -1, 0, 1, 2",
                    tooltip="The λ values, one column each: numbers, or from:to:step as in -2:2:1. Higher lets the scene of the prompt in, lower keeps to your subject.",
                ),
                io.Int.Input(
                    "seed_count",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Rows of the picture: the seed, the one after it, and so on.",
                ),
                *(entry for entry in dci_inputs() if entry.id != "injection_strength"),
                io.Image.Input(
                    "references",
                    optional=True,
                    tooltip="Photographs of your subject, one batch, for a column at the left of the grid. Without it the picture that "
                    "the concept brings along.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="One labelled picture: a column per λ, a row per seed."),
                io.Image.Output(
                    display_name="images",
                    tooltip="The single images, row by row; the first of each row is without DCI.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, injection_strengths: str | None) -> bool | str:
        try:
            parse_injection_strengths("0" if injection_strengths is None else injection_strengths)
        except UserInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        denoise: float,
        injection_strengths: str,
        seed_count: int,
        references: torch.Tensor | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        check_batch(cls.hidden.prompt or {}, cls.hidden.unique_id or "", "references")
        strengths = parse_injection_strengths(injection_strengths)
        cells = [DCISettings(injection_strength=strength, **settings) for strength in strengths]
        seeds = [following_seed(seed, row) for row in range(seed_count)]

        def sample(patched: Any, row_seed: int) -> dict[str, Any]:
            (latent,) = host_nodes.common_ksampler(
                patched,
                row_seed,
                steps,
                cfg,
                sampler_name,
                scheduler,
                positive,
                negative,
                latent_image,
                denoise=denoise,
            )
            return latent

        tell = text_of_each(text_of_node(cls.hidden.unique_id))
        latents = [[sample(patched, row_seed) for patched in _patched(model, cells, tell)] for row_seed in seeds]
        decoded = [[host_nodes.VAEDecode().decode(vae, latent)[0] for latent in row] for row in latents]
        rows = [images for row in decoded for images in zip(*row)]
        batch = len(rows) // len(seeds)
        labels = [f"seed\n{s}" + f"\nimage {i + 1}" * (batch > 1) for s in seeds for i in range(batch)]
        run = f"{sampler_name}, {scheduler}, {steps} steps, cfg {cfg:g}, {_described(cells[0])}"
        shown = list(references) if references is not None else _pictures(model)
        grid = draw_sweep(rows, [PLAIN_LABEL, *map(strength_label, strengths)], labels, run, shown)[None]
        images = torch.stack([image for row in rows for image in row])
        return io.NodeOutput(grid, images, ui=ui.PreviewImage(grid, cls=cls))


def _pictures(model: Any) -> list[torch.Tensor]:
    """What the concepts that a model carries look like, as far as they bring a picture."""
    found = map(image_of_thumbnail, carried_thumbnails(model))
    return [picture for picture in found if picture is not None]


def _patched(model: Any, cells: list[DCISettings], tell: Callable[[str], Tell | None]) -> list[Any]:
    memory = AuxiliaryMemory()
    return [
        model,
        *(apply_dci(model, cell, memory, tell(f"λ {cell.injection_strength:g}"), kept_runs=0)[0] for cell in cells),
    ]


def _described(settings: DCISettings) -> str:
    guidance = "shared" if settings.share_guidance else "exact"
    return f"active fraction {settings.active_fraction:g}, masks {settings.mask_preset.value}, {guidance} guidance"
