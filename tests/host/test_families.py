"""Which models are taken, as what, and how the others are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models as supported
import comfy_extras.nodes_model_advanced as model_nodes
import pytest
import torch
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


@pytest.mark.parametrize("config", ["SD3", "Flux", "SDXLRefiner"])
def test_models_without_text_cross_attention_are_refused_by_name(config: str) -> None:
    model = without_network(getattr(supported, config), in_channels=16)
    message = f"{config} models have no text cross-attention.*Connect an SD1.x, SD2.x or SDXL model"
    with pytest.raises(UserInputError, match=message):
        family_of(model)
    with pytest.raises(UserInputError, match=message):
        apply_dci(model, DCISettings())


def test_an_inpainting_model_is_sampled_but_not_trained() -> None:
    config = supported.SD15(TINY["inpaint"])
    config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(config, device=torch.device("cpu"))
    patcher = comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))
    apply_dci(patcher, DCISettings())
    with pytest.raises(UserInputError, match="9 channels.*Train on the plain text-to-image model"):
        HostModel(patcher, tiny_clip("sd1"), None).check_trainable()


def test_quantised_weights_are_told_in_plain_words() -> None:
    """The host saves a quantised layer's scale beside its weight, but the layer has no attribute of that name."""
    s = scene()
    base = tiny_model("sd1")

    def with_scale(module: Any, state: dict[str, Any], prefix: str, meta: Any) -> None:
        state[f"{prefix}weight_scale"] = torch.ones(())

    layer = base.model.diffusion_model.get_submodule("middle_block.1.transformer_blocks.0.attn2.to_k")
    layer.register_state_dict_post_hook(with_scale)
    with pytest.raises(
        UserInputError, match="cannot be read one by one .*Quantised checkpoints are like this: load an fp16"
    ):
        apply_concept(base, s.base.clip, s.concept)


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
