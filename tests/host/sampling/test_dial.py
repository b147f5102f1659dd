"""λ means the same on every family's real layer list and on models the host really runs."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfyui_dci.dci_core.sampling.dial import even_weight, mean_even_weight
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.layers import cross_attention_layers
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from scenes import ksample, scene

from workbench.layouts import TINY_SD1, TINY_SDXL

XL = {"model_channels": 320, "context_dim": 2048, "adm_in_channels": 2816, "num_head_channels": 64}
REAL = {
    "sd15": (
        TINY_SD1 | {"model_channels": 320, "channel_mult": [1, 2, 4, 4], "context_dim": 768, "num_heads": 8},
        (5, 5, 5, 1),
    ),
    "sd2": (
        TINY_SD1 | {"model_channels": 320, "channel_mult": [1, 2, 4, 4], "context_dim": 1024, "num_head_channels": 64},
        (5, 5, 5, 1),
    ),
    "sdxl": (
        TINY_SDXL
        | XL
        | {
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_middle": 10,
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        },
        (0, 10, 60),
    ),
    "ssd1b": (
        TINY_SDXL
        | XL
        | {
            "transformer_depth": [0, 0, 2, 2, 4, 4],
            "transformer_depth_middle": -1,
            "transformer_depth_output": [0, 0, 0, 1, 1, 2, 10, 4, 4],
        },
        (0, 8, 26),
    ),
}


@pytest.mark.parametrize("family", list(REAL))
def test_the_layers_of_real_models_by_halvings(family: str) -> None:
    config, counts = REAL[family]
    with torch.device("meta"):
        network = UNetModel(**config, dtype=torch.float32, device="meta")
    layers = Counter(cross_attention_layers(network).values())
    assert layers == {halvings: count for halvings, count in enumerate(counts) if count}
    assert mean_even_weight(layers, 0.0) == pytest.approx(0.3044, abs=1e-4)


@pytest.mark.parametrize("family, size", [("sd1", 8), ("sd1", 16), ("sdxl", 16), ("sdxl", 32), ("sd2", 24)])
@pytest.mark.parametrize("strength", [-2.0, 0.0, 2.0])
def test_random_models_whose_attention_is_nearly_even_show_the_weights_that_strength_means(
    family: str, size: int, strength: float
) -> None:
    s = scene(family)
    reports: list[str] = []
    settings = DCISettings(injection_strength=strength, active_fraction=0.5)
    patched, masks = apply_dci(s.model, settings, tell=reports.append)
    ksample(patched, s.positive, s.negative, steps=3, size=size)
    shown = int(reports[-1].split("the scene had ")[1].split(" %")[0]) / 100
    layers = Counter(cross_attention_layers(s.model.model.diffusion_model).values())
    assert shown == pytest.approx(mean_even_weight(layers, strength), abs=0.03)


@pytest.mark.parametrize("strength, weight", [(-2.0, 0.22), (0.0, 0.39), (2.0, 0.61)])
def test_the_published_constants_mean_something_else_on_sdxl(strength: float, weight: float) -> None:
    """At half of 1024²; what λ means is 0.19, 0.30, 0.70."""
    layers = {1: 10, 2: 60}
    tokens = {1: 64 * 64, 2: 32 * 32}
    mean = sum(count * even_weight(strength, 500.0, tokens[halvings]) for halvings, count in layers.items()) / 70
    assert mean == pytest.approx(weight, abs=5e-3)
    assert abs(mean - mean_even_weight(layers, strength)) > 0.03
