"""DCI beside the host's other features: each acts on both branches, and neither switches the other off."""

from __future__ import annotations

import logging
from typing import Any

import comfy.controlnet
import comfy.sample
import comfy_extras.nodes_custom_sampler as custom
import node_helpers
import nodes as host_nodes
import pytest
import torch
from auxiliary_path import auxiliary_latents
from comfyui_dci.dci_core.sampling.branches import auxiliary_noise
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from conditions import tiny_controlnet
from scenes import dci, encode, ksample, positive, relative_difference, scene

pytestmark = pytest.mark.sweep


class ForeignReplacement:
    """IPAdapter's pattern: replaces attn2, adds its own attention, and is looked up by a 2-part key."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra: dict[str, Any]) -> torch.Tensor:
        from comfy.ldm.modules.attention import optimized_attention

        return optimized_attention(q, k, v, extra["n_heads"]) + self.scale * q


def with_foreign(model: Any, scale: float, key: tuple[Any, ...]) -> Any:
    clone = model.clone()
    clone.set_model_attn2_replace(ForeignReplacement(scale), *key)
    return clone


@pytest.mark.parametrize("key", [("input", 1), ("input", 1, 0), ("middle", 0)])
def test_a_foreign_attention_replacement_acts_with_ours_in_either_order(key: tuple[Any, ...]) -> None:
    s = scene()
    first = ksample(dci(with_foreign(s.model, 0.3, key)), s.positive, s.negative)
    last = ksample(with_foreign(dci(s.model), 0.3, key), s.positive, s.negative)
    assert torch.equal(first, last)
    assert relative_difference(first, ksample(dci(s.model), s.positive, s.negative)) > 1e-4  # the foreign one acts
    assert (
        relative_difference(first, ksample(with_foreign(s.model, 0.3, key), s.positive, s.negative)) > 1e-4
    )  # ours acts
    forced = ksample(dci(with_foreign(s.model, 0.3, key), forced_auxiliary_weight=0.0), s.positive, s.negative)
    assert torch.equal(forced, ksample(with_foreign(s.model, 0.3, key), s.positive, s.negative))


@torch.inference_mode()
def sample_custom(model: Any, positive: Any, negative: Any) -> torch.Tensor:
    """Sample with the host's own custom-sampling nodes: CFGGuider and SamplerCustomAdvanced."""
    guider = custom.CFGGuider.execute(model, positive, negative, 5.0).result[0]
    sigmas = custom.BasicScheduler.execute(model, "normal", 4, 1.0).result[0]
    sampler = custom.KSamplerSelect.execute("euler").result[0]
    noise = custom.RandomNoise.execute(3).result[0]
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    return custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]["samples"]


@pytest.mark.parametrize("neutral", [{"active_fraction": 0.0}, {"forced_auxiliary_weight": 0.0}])
def test_neutral_settings_are_the_stock_guider(neutral: dict[str, float]) -> None:
    s = scene()
    stock = sample_custom(s.model, s.positive, s.negative)
    assert torch.equal(sample_custom(dci(s.model, **neutral), s.positive, s.negative), stock)


def test_the_model_patch_and_custom_sampling_make_the_samplers_image() -> None:
    s = scene()
    patched = dci(s.model)
    assert torch.equal(sample_custom(patched, s.positive, s.negative), ksample(patched, s.positive, s.negative))


def test_a_guider_without_negative_works() -> None:
    s = scene()
    with torch.inference_mode():
        patched, masks = apply_dci(s.model, DCISettings(active_fraction=0.5))
        guider = custom.BasicGuider.execute(patched, s.positive).result[0]
        sigmas = custom.BasicScheduler.execute(patched, "normal", 4, 1.0).result[0]
        sampler = custom.KSamplerSelect.execute("euler").result[0]
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        custom.SamplerCustomAdvanced.execute(custom.RandomNoise.execute(3).result[0], guider, sampler, sigmas, latent)
    assert len(masks.latest.calls) == 2


def test_the_auxiliary_branch_gets_its_own_text_and_pooled_vector() -> None:
    s = scene("sdxl")
    carried = s.positive[0][1]["dci"]
    assert not torch.equal(carried.pooled_output, s.positive[0][1]["pooled_output"])
    seen = auxiliary_latents(dci(s.model), s.positive, s.negative, steps=2)
    assert seen
    for conds, _ in seen:
        assert torch.equal(conds[0]["pooled_output"], carried.pooled_output)
        assert torch.equal(conds[0]["model_conds"]["c_crossattn"].cond, carried.cross_attn)
        assert torch.equal(conds[0]["model_conds"]["y"].cond[:, :96], carried.pooled_output)


@pytest.mark.parametrize("old_node", [True, False])
def test_a_controlnet_on_the_positive_acts_on_both_branches(old_node: bool) -> None:
    s = scene()
    net = tiny_controlnet(s.model)
    image = torch.rand(1, 64, 64, 3)
    with torch.inference_mode():
        if old_node:
            (pos,) = host_nodes.ControlNetApply().apply_controlnet(s.positive, net, image, 1.0)
            neg = s.negative
        else:
            apply = host_nodes.ControlNetApplyAdvanced().apply_controlnet
            pos, neg = apply(s.positive, s.negative, net, image, 1.0, 0.0, 1.0)
    forced = dci(s.model, forced_auxiliary_weight=0.0)
    assert torch.equal(ksample(forced, pos, neg), ksample(s.model, pos, neg))
    assert relative_difference(ksample(s.model, pos, neg), ksample(s.model, s.positive, s.negative)) > 1e-4
    seen = auxiliary_latents(dci(s.model), pos, neg)
    assert seen and all("control" in cond for conds, _ in seen for cond in conds)


def test_an_inpainting_mask_keeps_what_it_protects_in_both_branches() -> None:
    s = scene()
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1.0
    image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    latent = {"samples": image, "noise_mask": mask}
    result = ksample(dci(s.model), s.positive, s.negative, latent=latent)
    assert torch.allclose(result[..., :4], image[..., :4], atol=1e-5)
    forced = dci(s.model, forced_auxiliary_weight=0.0)
    stock = ksample(s.model, s.positive, s.negative, latent=latent)
    assert torch.equal(ksample(forced, s.positive, s.negative, latent=latent), stock)
    assert relative_difference(result, stock) > 1e-4
    # The protected half of what the auxiliary branch sees is the noised image, as for the concept branch.
    (_, first), *_ = auxiliary_latents(dci(s.model), s.positive, s.negative, latent=latent)
    sigma = float(s.model.get_model_object("model_sampling").sigma_max)
    scaled = s.model.model.process_latent_in(image)
    noise = (first[..., :4] - scaled[..., :4]) / sigma
    expected = auxiliary_noise(comfy.sample.prepare_noise(image, 3), 3)[..., :4]
    assert torch.allclose(noise, expected, atol=1e-3)  # not √(1+σ²)/σ times it, which is how a free latent starts


def test_image_to_image_keeps_its_share_of_active_steps() -> None:
    s = scene()
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    patched, masks = apply_dci(s.model, DCISettings(active_fraction=0.25))
    result = ksample(patched, s.positive, s.negative, steps=8, denoise=0.5, latent=latent)
    assert len(masks.latest.calls) == 2
    assert (
        relative_difference(result, ksample(s.model, s.positive, s.negative, steps=8, denoise=0.5, latent=latent))
        > 1e-5
    )
    forced = dci(s.model, forced_auxiliary_weight=0.0)
    stock = ksample(s.model, s.positive, s.negative, steps=8, denoise=0.5, latent=latent)
    assert torch.equal(ksample(forced, s.positive, s.negative, steps=8, denoise=0.5, latent=latent), stock)


def test_a_masked_and_an_area_condition_carry_their_auxiliary_text_along() -> None:
    s = scene()
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1.0
    masked = node_helpers.conditioning_set_values(s.positive, {"mask": mask, "mask_strength": 1.0})
    area = node_helpers.conditioning_set_values(positive(s.clip, "a V* in the snow"), {"area": (4, 8, 4, 0)})
    conds = masked + area
    stock = ksample(s.model, conds, s.negative)
    assert torch.equal(ksample(dci(s.model, forced_auxiliary_weight=0.0), conds, s.negative), stock)
    assert relative_difference(ksample(dci(s.model), conds, s.negative), stock) > 1e-4
    twins = auxiliary_latents(dci(s.model), conds, s.negative)
    assert twins
    for seen, _ in twins:
        assert any("mask" in cond for cond in seen) and any(cond.get("area") == (4, 8, 4, 0) for cond in seen)


def test_steps_after_the_active_part_run_no_extra_rows() -> None:
    s = scene()
    rows: list[int] = []
    watched = dci(s.model, active_fraction=0.3).clone()
    from comfy.patcher_extension import WrappersMP

    def count(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        rows.append(x.shape[0])
        replaced = args[-1].get("patches_replace", {})
        assert set(replaced) == ({"attn2"} if len(rows) < 5 else set())  # self-attention is the host's throughout
        return executor(x, *args, **kwargs)

    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "count", count)
    ksample(watched, s.positive, s.negative, steps=6)
    assert rows == [1, 2, 1, 2, 2, 2, 2, 2]  # two active steps of 1 + 2 rows, then plain ones of 2


def test_exact_guidance_runs_four_rows_an_active_step() -> None:
    s = scene()
    rows: list[int] = []
    watched = dci(s.model, active_fraction=0.3, share_guidance=False).clone()
    from comfy.patcher_extension import WrappersMP

    def count(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        rows.append(x.shape[0])
        return executor(x, *args, **kwargs)

    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", count)
    ksample(watched, s.positive, s.negative, steps=6)
    assert rows == [2, 2, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "field, value", [("blend", "sum"), ("blend", "mean"), ("layers", "last"), ("mask_preset", "paper")]
)
def test_each_ablation_and_preset_makes_another_image(field: str, value: str) -> None:
    s = scene()
    usual = ksample(dci(s.model), s.positive, s.negative)
    assert relative_difference(ksample(dci(s.model, **{field: value}), s.positive, s.negative), usual) > 1e-6


def test_the_last_layer_alone_is_the_last_of_the_forward_pass() -> None:
    s = scene()
    order: list[Any] = []

    def note(x: Any, extra: dict[str, Any]) -> Any:
        order.append((*extra["block"], extra["block_index"]))
        return x

    watched = s.model.clone()
    watched.set_model_attn2_output_patch(note)
    ksample(watched, s.positive, s.negative, steps=1)
    from comfyui_dci.nodes.host.sampling.layers import cross_attention_layers

    assert order[:16] == list(cross_attention_layers(s.model.model.diffusion_model))


def test_a_positive_without_auxiliary_text_is_plain_sampling_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    s = scene()
    plain = encode(s.clip, "a castle")
    with caplog.at_level(logging.WARNING, "comfyui_dci"):
        ours = ksample(dci(s.model), plain, s.negative)
    assert torch.equal(ours, ksample(s.model, plain, s.negative))
    assert "carries no auxiliary text" in caplog.text


def test_without_added_noise_it_is_plain_sampling_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    s = scene()
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    with caplog.at_level(logging.WARNING, "comfyui_dci"):
        ours = ksample(dci(s.model), s.positive, s.negative, latent=latent, disable_noise=True)
    assert torch.equal(ours, ksample(s.model, s.positive, s.negative, latent=latent, disable_noise=True))
    assert "no noise is added" in caplog.text
