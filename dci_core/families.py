"""The model families that the method works on, and what is peculiar to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

_XL_ENCODERS = ("clip_l", "clip_g")


@dataclass(frozen=True)
class Family:
    """A model family.

    Args:
        name: as written into concept files.
        architecture: its name in ModelSpec, or where that has none, ``name``.
        native_resolution: edge of the images it was trained on, in pixels.
        text_encoders: names of its CLIP text encoders, in the order their outputs are concatenated.
        pooled_from: the text encoder whose pooled vector the network is given; None where it is given none.
        latent_channels: D of its latents.
        pixels_per_latent: along an edge.
        layers_per_block: of the network's downward half, by which diffusers numbers its layers.
    """

    name: str
    architecture: str
    native_resolution: int
    text_encoders: tuple[str, ...]
    pooled_from: str | None = None
    latent_channels: int = 4
    pixels_per_latent: int = 8
    layers_per_block: int = 2

    @property
    def native_latent(self) -> int:
        """Edge of the latent at the native resolution."""
        return self.native_resolution // self.pixels_per_latent

    def resolution(self, wanted: int) -> int:
        """Return the edge of images in pixels: the wanted one, or for 0 the native one."""
        return wanted or self.native_resolution

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """Return D, height and width of the latent of a square image, given its edge in pixels."""
        edge = resolution // self.pixels_per_latent
        return self.latent_channels, edge, edge


def _xl(name: str, architecture: str, layers_per_block: int = 2) -> Family:
    return Family(name, architecture, 1024, _XL_ENCODERS, pooled_from="clip_g", layers_per_block=layers_per_block)


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("sd1", "stable-diffusion-v1", 512, ("clip_l",)),
        Family("sd2", "stable-diffusion-v2", 768, ("clip_h",)),
        _xl("sdxl", "stable-diffusion-xl-v1-base"),
        _xl("ssd1b", "ssd1b"),
        _xl("vega", "vega"),
        _xl("koala_700m", "koala_700m", 1),
        _xl("koala_1b", "koala_1b", 1),
    )
}
"""Every family by its name."""
TEXT_ENCODERS = tuple(dict.fromkeys(name for family in FAMILIES.values() for name in family.text_encoders))
"""The text encoders of all families."""
SD2_BASE = replace(FAMILIES["sd2"], native_resolution=512)
"""SD2.x-base: the same weights' layout, trained on smaller images."""
