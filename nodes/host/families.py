"""The family of a host MODEL."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.supported_models as supported

from ...dci_core.errors import UserInputError
from ...dci_core.families import FAMILIES, SD2_BASE, Family

HOST_CLASSES = {
    "SSD1B": "ssd1b",
    "Segmind_Vega": "vega",
    "KOALA_700M": "koala_700m",
    "KOALA_1B": "koala_1b",
    "SDXL": "sdxl",
    "SD20": "sd2",
    "SD15": "sd1",
}
"""Families by the host's configurations, special cases first: they are subclasses of the general ones."""


def family_of(model: Any) -> Family:
    """Return the family of a MODEL.

    Raises:
        UserInputError: the model has no text cross-attention that the method could work on.
    """
    config = getattr(model.model, "model_config", None)
    for class_name, name in HOST_CLASSES.items():
        known = getattr(supported, class_name, None)
        if known is not None and isinstance(config, known):
            is_base = name == "sd2" and model.model.model_type is comfy.model_base.ModelType.EPS
            return SD2_BASE if is_base else FAMILIES[name]
    raise UserInputError(
        f"{type(config).__name__} models have no text cross-attention layers that DCI can work on. "
        "Connect an SD1.x, SD2.x or SDXL model (SSD-1B, Vega and KOALA work too)."
    )
