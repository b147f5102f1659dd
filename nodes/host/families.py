"""The family of a host MODEL."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.supported_models as supported
from comfy.supported_models_base import BASE

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

VARIANTS = {
    "SD15_instructpix2pix": "an InstructPix2Pix model",
    "SDXL_instructpix2pix": "an InstructPix2Pix model",
    "SD21UnclipL": "an unCLIP model",
    "SD21UnclipH": "an unCLIP model",
    "SD_X4Upscaler": "the 4× upscaler",
    "LotusD": "a Lotus model",
}
"""Members of a family that take more than noise and text, by the host's configurations."""
INPAINTING_CHANNELS = 9
STEERED_BY_IMAGES = ("SVD_img2vid", "SV3D_u", "SV3D_p", "Stable_Zero123")
SUPPORTED = "Connect an SD1.x, SD2.x or SDXL model (SSD-1B, Vega and KOALA work too)."
REFINER = (
    "This is the SDXL refiner; concepts and DCI work on the SDXL base model. Connect that one, and let the refiner finish its "
    "picture in a KSampler of its own, without DCI."
)


def family_of(model: Any) -> Family:
    """Return the family of a MODEL.

    Raises:
        UserInputError: the model is another: it says which.
    """
    config = _config_of(model)
    for class_name, name in HOST_CLASSES.items():
        known = getattr(supported, class_name, None)
        if known is not None and isinstance(config, known):
            is_base = name == "sd2" and model.model.model_type is comfy.model_base.ModelType.EPS
            return SD2_BASE if is_base else FAMILIES[name]
    raise UserInputError(_another(type(config)))


def variant_of(model: Any) -> str:
    """Return which member of its family a model with inputs of its own is, such as "an inpainting model"."""
    config = _config_of(model)
    channels = config.unet_config["in_channels"]
    usual = "an inpainting model" if channels == INPAINTING_CHANNELS else "a model with other inputs"
    return VARIANTS.get(type(config).__name__, usual)


def _config_of(model: Any) -> Any:
    return getattr(model.model, "model_config", None)


def _another(config_class: type) -> str:
    """Return what is to be said of a model of no family."""
    name = config_class.__name__.replace("_", " ")
    if config_class.__name__ == "SDXLRefiner":
        return REFINER
    if config_class.__name__ in STEERED_BY_IMAGES:
        return f"{name} models are steered by an image, not by a text. {SUPPORTED}"
    if config_class in (BASE, type(None)):
        return f"ComfyUI does not know what kind of model this is. {SUPPORTED}"
    return f"{name} models have no text cross-attention layers that DCI can work on. {SUPPORTED}"
