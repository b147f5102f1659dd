"""Every family, odd sizes, precisions and inpainting networks: the stock image when forced, another with DCI."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_patcher
import nodes as host_nodes
import pytest
import torch
from comfyui_dci.dci_core.sampling.settings import DCISettings, MaskPreset
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from scenes import dci, ksample, relative_difference, scene

from workbench.layouts import TINY
from workbench.tiny import tiny

pytestmark = pytest.mark.sweep

LAYERS = {
    "sd1": 16,
    "sd2": 16,
    "sd2v": 16,
    "sdxl": 17,
    "ssd1b": 24,
    "vega": 15,
    "koala_700m": 15,
    "inpaint": 16,
    "sd2_inpaint": 16,
    "sdxl_inpaint": 17,
}
"""Counted by hand; other families are counted in their networks."""


def check(family: str, dtype: torch.dtype = torch.float32, **options: Any) -> None:
    s = scene(family, dtype)
    positive, negative = options.pop("positive", s.positive), options.pop("negative", s.negative)
    stock = ksample(s.model, positive, negative, **options)
    assert stock.isfinite().all()
    for share_guidance in (True, False):
        forced = dci(s.model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
        assert torch.equal(ksample(forced, positive, negative, **options), stock)
    ours = ksample(dci(s.model), positive, negative, **options)
    assert ours.isfinite().all() and relative_difference(ours, stock) > 1e-4


@pytest.mark.parametrize("family", [family for family in TINY if family != "mini"])
def test_every_family(family: str, caplog: pytest.LogCaptureFixture) -> None:
    check(family)
    s = scene(family)
    with caplog.at_level(logging.INFO, "comfyui_dci"):
        ksample(apply_dci(s.model, DCISettings())[0], s.positive, s.negative, steps=1)
    in_network = sum(name.endswith(".attn2") for name, _ in s.model.model.diffusion_model.named_modules())
    assert in_network == LAYERS.get(family, in_network) and f"DCI: {in_network} layers patched" in caplog.text


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_weights_patched_layer_by_layer_as_with_little_gpu_memory(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's low-memory loading, which ``--lowvram`` and ``--novram`` force: the concept's K and V are added in each forward."""
    whole = scene(family)
    expected = ksample(dci(whole.model), whole.positive, whole.negative)
    base = tiny(family)
    model, _ = apply_concept(base.model, base.clip, whole.concept)
    load = comfy.model_patcher.ModelPatcher.load

    def sparing(self: Any, device_to: Any = None, lowvram_model_memory: int = 0, *args: Any, **kwargs: Any) -> Any:
        return load(self, device_to, 1, *args, **{**kwargs, "full_load": False})

    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "load", sparing)
    stock = ksample(model, whole.positive, whole.negative)
    patched_late = [m for m in model.model.diffusion_model.modules() if getattr(m, "weight_function", None)]
    assert len(patched_late) == 2 * LAYERS[family]
    forced = dci(model, forced_auxiliary_weight=0.0)
    assert torch.equal(ksample(forced, whole.positive, whole.negative), stock)
    assert relative_difference(ksample(dci(model), whole.positive, whole.negative), expected) < 1e-5


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_precision(family: str, dtype: torch.dtype) -> None:
    check(family, dtype)


@pytest.mark.parametrize("preset", [preset.value for preset in MaskPreset])
@pytest.mark.parametrize("size", [(9, 8), (7, 13), (16, 5)])
def test_sizes_that_are_no_multiples_of_64(size: tuple[int, int], preset: str) -> None:
    s = scene()
    latent = {"samples": torch.zeros(2, 4, *size)}
    check("sd1", latent=latent)
    patched, masks = apply_dci(s.model, DCISettings(injection_strength=1.0, active_fraction=0.5, mask_preset=preset))
    ksample(patched, s.positive, s.negative, latent=latent)
    assert masks.latest.sizes[0] == size and masks.latest.batch == 2


@pytest.mark.parametrize("family", ["sd1", "inpaint", "sd2_inpaint", "sdxl_inpaint"])
def test_inpainting_conditioning(family: str) -> None:
    s = scene(family)
    pixels = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(1, 64, 64)
    mask[:, 16:48, 16:48] = 1.0
    with torch.inference_mode():
        encode = host_nodes.InpaintModelConditioning().encode
        positive, negative, latent = encode(s.positive, s.negative, pixels, s.base.vae, mask)
    check(family, positive=positive, negative=negative, latent=latent, denoise=0.9)
