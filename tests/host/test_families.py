"""Which models are taken, as what, and how the others are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models as supported
import comfy_extras.nodes_model_advanced as model_nodes
import pytest
import torch
from comfy.supported_models_base import BASE
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.families import FAMILIES
from comfyui_dci.dci_core.prediction import Prediction
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.dci_core.training.settings import TrainingSettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.families import HOST_CLASSES, family_of
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.host.training.inputs import TrainingInputs
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from scenes import scene

from workbench.layouts import TINY
from workbench.tiny import tiny_clip, tiny_model


def without_network(config_class: type, **unet_config: Any) -> Any:
    """Return a host MODEL of a family, of which only the configuration is looked at."""
    config = config_class({"disable_unet_model_creation": True, **unet_config})
    model = comfy.model_base.BaseModel(config, device=torch.device("cpu"))
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


@pytest.mark.parametrize(
    ("config", "name", "size"),
    [
        ("SD15", "sd1", 512),
        ("SDXL", "sdxl", 1024),
        ("SSD1B", "ssd1b", 1024),
        ("Segmind_Vega", "vega", 1024),
        ("KOALA_700M", "koala_700m", 1024),
        ("KOALA_1B", "koala_1b", 1024),
    ],
)
def test_each_family_has_its_name_and_native_size(config: str, name: str, size: int) -> None:
    family = family_of(without_network(getattr(supported, config), num_heads=8))
    assert (family.name, family.native_resolution, family.native_latent) == (name, size, size // 8)


@pytest.mark.parametrize("config", HOST_CLASSES)
def test_every_configuration_of_the_host_is_known_as_its_family(config: str) -> None:
    family = family_of(without_network(getattr(supported, config), num_heads=8))
    assert replace(family, native_resolution=0) == replace(FAMILIES[HOST_CLASSES[config]], native_resolution=0)


def test_every_family_has_one_configuration_of_the_host() -> None:
    assert sorted(HOST_CLASSES.values()) == sorted(FAMILIES)


def test_the_native_size_of_sd2_depends_on_what_it_predicts() -> None:
    assert family_of(tiny_model("sd2", v_prediction=True)).native_resolution == 768
    assert family_of(tiny_model("sd2", v_prediction=False)).native_resolution == 512


@pytest.mark.parametrize("config", ["SD3", "Flux"])
def test_models_without_text_cross_attention_are_refused_by_name(config: str) -> None:
    model = without_network(getattr(supported, config), in_channels=16)
    message = f"{config} models have no text cross-attention.*Connect an SD1.x, SD2.x or SDXL model"
    with pytest.raises(UserInputError, match=message):
        family_of(model)
    with pytest.raises(UserInputError, match=message):
        apply_dci(model, DCISettings())


def test_the_refiner_is_told_where_it_belongs() -> None:
    model = without_network(supported.SDXLRefiner, num_heads=8)
    message = (
        "^This is the SDXL refiner; concepts and DCI work on the SDXL base model. Connect that one, and let the refiner"
    )
    with pytest.raises(UserInputError, match=message):
        apply_dci(model, DCISettings())
    with pytest.raises(UserInputError, match=message):
        apply_concept(model, tiny_clip("sdxl"), scene("sdxl").concept)
    with pytest.raises(UserInputError, match=message):
        HostModel(model, tiny_clip("sdxl"), None).check_trainable()


def test_every_other_model_of_the_host_is_told_what_it_is_and_what_is_taken() -> None:
    families = tuple(getattr(supported, name) for name in HOST_CLASSES)
    others = [config for config in supported.models if not issubclass(config, families)]
    assert len(others) > 40
    for config in others:
        with pytest.raises(UserInputError) as refusal:
            family_of(SimpleNamespace(model=SimpleNamespace(model_config=config.__new__(config))))
        said, name = str(refusal.value), config.__name__.replace("_", " ")
        assert said.startswith(("This is the SDXL refiner", f"{name} models ")) and "SDXL" in said
        by_image = config.__name__ in ("SVD_img2vid", "SV3D_u", "SV3D_p", "Stable_Zero123")
        assert ("steered by an image, not by a text" in said) is by_image


@pytest.mark.parametrize("config", [None, BASE.__new__(BASE)])
def test_a_model_that_the_host_does_not_know_is_not_given_a_name(config: Any) -> None:
    with pytest.raises(UserInputError, match="^ComfyUI does not know what kind of model this is. Connect an SD1.x"):
        family_of(SimpleNamespace(model=SimpleNamespace(model_config=config)))


@pytest.mark.parametrize(
    ("config", "layout", "kind"),
    [
        ("SD15", "inpaint", r"sd1 model takes extra inputs \(9 channels\): it is an inpainting model"),
        ("SDXL", "sdxl_inpaint", r"sdxl model takes extra inputs \(9 channels\): it is an inpainting model"),
        ("SD15_instructpix2pix", {"in_channels": 8}, r"sd1 .*\(8 channels\): it is an InstructPix2Pix model"),
        ("SDXL_instructpix2pix", {"in_channels": 8}, r"sdxl .*\(8 channels\): it is an InstructPix2Pix model"),
        ("SD21UnclipL", {"in_channels": 4, "adm_in_channels": 1536}, "sd2 .*it is an unCLIP model"),
        ("SD21UnclipH", {"in_channels": 4, "adm_in_channels": 2048}, "sd2 .*it is an unCLIP model"),
        ("SD_X4Upscaler", {"in_channels": 7}, r"sd2 .*\(7 channels\): it is the 4× upscaler"),
        ("LotusD", {"in_channels": 4, "adm_in_channels": 4}, "sd2 .*it is a Lotus model"),
        ("SD15", {"in_channels": 5}, r"sd1 .*\(5 channels\): it is a model with other inputs"),
    ],
)
def test_a_member_of_a_family_with_other_inputs_is_told_what_it_is_and_not_trained(
    config: str, layout: Any, kind: str
) -> None:
    given = TINY[layout] if isinstance(layout, str) else {"num_heads": 8, **layout}
    model = without_network(getattr(supported, config), **given)
    with pytest.raises(UserInputError, match=f"^This {kind}. Train on the plain text-to-image model of the family"):
        HostModel(model, tiny_clip(family_of(model).name), None).check_trainable()


def test_dci_takes_an_inpainting_model() -> None:
    config = supported.SD15(TINY["inpaint"])
    config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(config, device=torch.device("cpu"))
    apply_dci(comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu")), DCISettings())


def test_the_prediction_follows_model_sampling_nodes() -> None:
    model = tiny_model("sd1")
    assert HostModel(model, None, None).prediction is Prediction.EPSILON
    assert HostModel(tiny_model("sd2", v_prediction=True), None, None).prediction is Prediction.V
    (patched,) = model_nodes.ModelSamplingDiscrete().patch(model, "v_prediction", True)
    assert HostModel(patched, None, None).prediction is Prediction.V
    (distilled,) = model_nodes.ModelSamplingDiscrete().patch(model, "lcm", False)
    with pytest.raises(UserInputError, match="samples on 50 of its 1000 timesteps"):
        _ = HostModel(distilled, None, None).prediction
    (continuous,) = model_nodes.ModelSamplingContinuousEDM().patch(model, "edm", 120.0, 0.002)
    with pytest.raises(UserInputError, match="ε- and v-prediction with discrete timesteps"):
        _ = HostModel(continuous, None, None).prediction


@pytest.mark.parametrize("config", ["SD3", "Flux"])
def test_training_them_is_refused_before_anything_is_read_encoded_or_written(config: str, tmp_path: Path) -> None:
    model = without_network(getattr(supported, config), in_channels=16)
    inputs = TrainingInputs([torch.rand(64, 64, 3)], "cat")
    with pytest.raises(UserInputError, match="Connect an SD1.x, SD2.x or SDXL model"):
        train_concept(HostModel(model, None, None), inputs, TrainingSettings(), Storage(tmp_path))
    assert list(tmp_path.iterdir()) == []
