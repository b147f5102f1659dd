"""Which models the method works on, and what is peculiar to each family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.supported_models as supported

from ...dci_core.errors import UserInputError


@dataclass(frozen=True)
class Family:
    """A model family.

    Args:
        name: as written into concept files.
        native_size_px: edge of the images it was trained on.
        text_encoders: names of its CLIP text encoders, in the order their outputs are concatenated.
    """

    name: str
    native_size_px: int
    text_encoders: tuple[str, ...]

    @property
    def native_latent(self) -> int:
        """Edge of the latent at the native size."""
        return self.native_size_px // 8


_XL_ENCODERS = ("clip_l", "clip_g")
_FAMILIES = (  # special cases first: they are subclasses of the general ones
    ("SSD1B", Family("ssd1b", 1024, _XL_ENCODERS)),
    ("Segmind_Vega", Family("vega", 1024, _XL_ENCODERS)),
    ("KOALA_700M", Family("koala_700m", 1024, _XL_ENCODERS)),
    ("KOALA_1B", Family("koala_1b", 1024, _XL_ENCODERS)),
    ("SDXL", Family("sdxl", 1024, _XL_ENCODERS)),
    ("SD20", Family("sd2", 768, ("clip_h",))),
    ("SD15", Family("sd1", 512, ("clip_l",))),
)


def family_of(model: Any) -> Family:
    """Return the family of a MODEL.

    Raises:
        UserInputError: the model has no text cross-attention that the method could work on.
    """
    config = getattr(model.model, "model_config", None)
    for class_name, family in _FAMILIES:
        known = getattr(supported, class_name, None)
        if known is not None and isinstance(config, known):
            if family.name == "sd2" and str(model.model.model_type).endswith("EPS"):
                return Family("sd2", 512, family.text_encoders)  # 2.x-base
            return family
    raise UserInputError(
        f"{type(config).__name__} models have no text cross-attention layers that DCI can work on. "
        "Connect an SD1.x, SD2.x or SDXL model (SSD-1B, Vega and KOALA work too)."
    )
