"""Neutral settings are the stock sampler bit for bit; Euler with two branches is the paper's, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.ldm.modules.attention as host_attention
import comfy.model_patcher
import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom
import pytest
import torch
from comfyui_dci.dci_core.sampling.branches import auxiliary_noise
from comfyui_dci.dci_core.sampling.dbim import attention_scores, auxiliary_weight, blend_outputs, saliency
from comfyui_dci.dci_core.sampling.settings import MaskPreset
from comfyui_dci.nodes.host.sampling.auxiliary_branch import AuxiliaryBranch
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY
from comfyui_dci.nodes.host.sampling.layer_call import Attention
from comfyui_dci.nodes.host.sampling.layers import Layer, cross_attention_layers
from sampled import sample_guider
from scenes import Scene, dci, ksample, relative_difference, scene
from torch import Tensor

from workbench.tiny import DEVICE

SAMPLERS = [
    "euler",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "euler_cfg_pp",
    pytest.param("dpm_adaptive", marks=pytest.mark.sweep),
    "heun",
    "euler_ancestral",
    "uni_pc",
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_active_fraction_of_zero_is_the_stock_sampler(sampler: str) -> None:
    s = scene()
    stock = ksample(s.model, s.positive, s.negative, sampler)
    ours = ksample(dci(s.model, active_fraction=0.0), s.positive, s.negative, sampler)
    assert torch.equal(ours, stock)


@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_blend_forced_to_the_concept_is_the_stock_sampler(sampler: str, share_guidance: bool) -> None:
    s = scene()
    stock = ksample(s.model, s.positive, s.negative, sampler)
    forced = dci(s.model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(ksample(forced, s.positive, s.negative, sampler), stock)
    blended = dci(s.model, forced_auxiliary_weight=0.5, share_guidance=share_guidance)
    assert relative_difference(ksample(blended, s.positive, s.negative, sampler), stock) > 1e-3


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_a_blend_forced_to_the_concept_is_the_stock_sampler_in_every_family(family: str) -> None:
    s = scene(family)
    stock = ksample(s.model, s.positive, s.negative)
    assert torch.equal(ksample(dci(s.model, forced_auxiliary_weight=0.0), s.positive, s.negative), stock)
    assert relative_difference(ksample(dci(s.model), s.positive, s.negative), stock) > 1e-4


@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize("strength", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_equal_prompts_and_noise_leave_the_image_alone(sampler: str, strength: float, share_guidance: bool) -> None:
    s = scene()
    cond, options = s.positive[0]
    carried = options[CARRIED_KEY]
    same = replace(carried, cross_attn=cond, options=carried.concept_options, auxiliary_tokens=carried.concept_tokens)
    positive = [[cond, {**options, CARRIED_KEY: same}]]
    patched = dci(s.model, injection_strength=strength, share_noise=True, share_guidance=share_guidance)
    stock = ksample(s.model, s.positive, s.negative, sampler)
    # The branches are equal up to the rounding of different batch sizes.
    assert relative_difference(ksample(patched, positive, s.negative, sampler), stock) < 1e-5


@pytest.mark.parametrize("strength", [-1.0, 0.0, 1.5])
@pytest.mark.parametrize("share_guidance", [True, False])
def test_euler_follows_the_papers_two_branches(share_guidance: bool, strength: float) -> None:
    s = scene()
    settings = {"mask_preset": "reference", "auxiliary_steps": "single", "share_guidance": share_guidance}
    ours = ksample(dci(s.model, injection_strength=strength, **settings), s.positive, s.negative, steps=5, batch=2)
    paper = _two_branch_euler(s, strength, share_guidance, steps=5, batch=2)
    assert relative_difference(ours, paper) < 1e-5


def test_fine_steps_are_the_papers_branches_with_the_predictions_held_between_calls() -> None:
    s = scene()
    patched = dci(s.model, injection_strength=1.5, mask_preset="reference")
    ours = ksample(patched, s.positive, s.negative, steps=5, batch=2)
    held = _two_branch_euler(s, 1.5, True, steps=5, batch=2, fine=True)
    assert relative_difference(ours, held) < 1e-4
    single = ksample(
        dci(s.model, injection_strength=1.5, mask_preset="reference", auxiliary_steps="single"),
        s.positive,
        s.negative,
        steps=5,
        batch=2,
    )
    assert relative_difference(ours, single) > 1e-3


@pytest.mark.parametrize("settings", [{"share_guidance": False}, {"cfg": 1.0}, {"steps": 200, "last_step": 12}])
def test_fine_and_single_steps_are_one_where_there_is_nothing_between(settings: dict[str, Any]) -> None:
    s = scene()
    settings = dict(settings)
    run = {name: settings.pop(name) for name in ("cfg", "steps", "last_step") if name in settings}
    fine, single = (dci(s.model, auxiliary_steps=steps, **settings) for steps in ("fine", "single"))
    pictures = [ksample(model, s.positive, s.negative, **run) for model in (fine, single)]
    assert relative_difference(*pictures) < (
        1e-5 if "steps" in run else 1e-12
    )  # one step of a closed form rounds otherwise


def test_any_guider_and_any_mask_takes_step_by_step_what_plain_guidance_takes_in_closed_form() -> None:
    class OtherGuider(comfy.samplers.CFGGuider):
        """The same formula, but not known to be it."""

    s = scene()
    model = dci(s.model, injection_strength=1.5)
    pictures = []
    for kind in (comfy.samplers.CFGGuider, OtherGuider):
        guider = kind(model)
        guider.set_conds(s.positive, s.negative)
        guider.set_cfg(5.0)
        pictures.append(sample_guider(guider, model, steps=5))
    assert relative_difference(*pictures) < 1e-5
    single = dci(s.model, injection_strength=1.5, auxiliary_steps="single")
    guider = comfy.samplers.CFGGuider(single)
    guider.set_conds(s.positive, s.negative)
    guider.set_cfg(5.0)
    assert relative_difference(sample_guider(guider, single, steps=5), pictures[0]) > 1e-3
    everywhere = {"samples": torch.zeros(1, 4, 8, 8), "noise_mask": torch.ones(1, 64, 64)}
    masked = ksample(model, s.positive, s.negative, steps=5, latent=everywhere)
    assert relative_difference(masked, ksample(model, s.positive, s.negative, steps=5)) < 1e-5


@pytest.mark.parametrize("cfg", [0.0, 0.5])
def test_a_guidance_below_one_is_finite(cfg: float) -> None:
    s = scene()
    assert ksample(dci(s.model), s.positive, s.negative, steps=5, cfg=cfg).isfinite().all()


def test_a_schedule_of_one_level_samples_as_the_stock_model_does() -> None:
    s = scene()
    sigmas = torch.tensor([14.0])
    model = dci(s.model)
    with torch.inference_mode():
        results = [
            custom.SamplerCustom.execute(
                m,
                True,
                3,
                5.0,
                s.positive,
                s.negative,
                custom.KSamplerSelect.execute("euler").result[0],
                sigmas,
                {"samples": torch.zeros(1, 4, 8, 8)},
            ).result[0]["samples"]
            for m in (s.model, model)
        ]
    assert torch.equal(*results)


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_a_stochastic_step_is_a_deterministic_one_to_less_noise_and_noise_of_its_own(
    monkeypatch: pytest.MonkeyPatch, eta: float
) -> None:
    moves = []
    move = AuxiliaryBranch.move

    def watched(branch: AuxiliaryBranch, sigma: float, *rest: Any) -> None:
        before = branch.x, branch.denoised, branch.sigma
        move(branch, sigma, *rest)
        if sigma != before[2]:
            moves.append((*before, sigma, branch.x, branch.start.noise, branch.start.seed))

    monkeypatch.setattr(AuxiliaryBranch, "move", watched)
    s = scene()
    ksample(dci(s.model, auxiliary_eta=eta, share_guidance=False, active_fraction=0.9), s.positive, s.negative, steps=5)
    assert len(moves) >= 3
    for draw, (x, denoised, sigma, following, after, noise, seed) in enumerate(moves, start=1):
        up = eta * following * (1.0 - (following / sigma) ** 2) ** 0.5
        level = (following**2 - up**2) ** 0.5
        expected = denoised + level / sigma * (x - denoised) + up * auxiliary_noise(noise, seed, draw)
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-4)


def test_a_stochastic_auxiliary_branch_draws_its_own_noise_and_leaves_the_samplers_alone() -> None:
    s = scene()
    forced = dci(s.model, forced_auxiliary_weight=0.0, auxiliary_eta=1.0)
    for sampler in ("euler", "euler_ancestral"):
        stock = ksample(s.model, s.positive, s.negative, sampler)
        assert torch.equal(ksample(forced, s.positive, s.negative, sampler), stock)
    stochastic = dci(s.model, auxiliary_eta=1.0)
    first = ksample(stochastic, s.positive, s.negative)
    assert torch.equal(first, ksample(stochastic, s.positive, s.negative))
    assert relative_difference(first, ksample(dci(s.model), s.positive, s.negative)) > 1e-4
    other = ksample(stochastic, s.positive, s.negative, seed=4)
    assert relative_difference(first, other) > 1e-2


@pytest.mark.sweep
def test_calibrated_is_reference_on_sd15s_layers_at_512_to_the_bit() -> None:
    """SD1.5's own layer list on a map of 64 x 64: the same picture; on a quarter of it another."""
    s = scene()
    for size, same in ((64, True), (16, False)):
        presets = [dci(s.model, mask_preset=preset) for preset in ("calibrated", "reference")]
        pictures = [ksample(model, s.positive, s.negative, steps=1, size=size, cfg=1.0) for model in presets]
        assert torch.equal(*pictures) is same


@torch.inference_mode()
def _two_branch_euler(
    s: Scene, strength: float, share_guidance: bool, steps: int, batch: int, fine: bool = False
) -> Tensor:
    """Both branches side by side, each with its own latent and Euler step: written from METHOD section 3, one row at a time.

    ``fine`` takes x_a to x_c' + Δ + (1 + s(ρ - 1))^K (x_a - x_c - Δ), Δ = D_a - D_c: K equal steps with D_a, D_c, D_u held.
    """
    guider = _loaded_guider(s)
    sampling = guider.inner_model.model_sampling
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)
    concept_set, auxiliary_set = (
        s.positive[0][1][CARRIED_KEY].concept_tokens,
        s.positive[0][1][CARRIED_KEY].auxiliary_tokens,
    )
    layers = cross_attention_layers(guider.inner_model.diffusion_model)
    record: dict[Layer, tuple[Tensor, Tensor]] = {}

    def capture(key: Layer) -> Attention:
        def attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
            out = host_attention.optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra)
            scores = attention_scores(q, k, extra["n_heads"])
            record[key] = (out, saliency(scores, auxiliary_set, MaskPreset.REFERENCE))
            return out

        return attend

    def inject(key: Layer) -> Attention:
        def attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
            out = host_attention.optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra)
            scores = attention_scores(q, k, extra["n_heads"])
            s_c = saliency(scores, concept_set, MaskPreset.REFERENCE)
            return blend_outputs(out, record[key][0], auxiliary_weight(s_c, record[key][1], strength))

        return attend

    def epsilon(x: Tensor, sigma: Tensor, cond: Any, hook: Callable[[Layer], Attention] | None = None) -> Tensor:
        options: dict[str, Any] = {"transformer_options": {}}
        for layer in layers if hook else ():
            options = comfy.model_patcher.set_model_options_patch_replace(options, hook(layer), "attn2", *layer)
        (denoised,) = comfy.samplers.calc_cond_batch(guider.inner_model, [cond], x, sigma.expand(batch), options)
        return (x - denoised) / sigma

    noise = comfy.sample.prepare_noise(torch.zeros(batch, 4, 8, 8), 3)
    start = (1.0 + sigmas[0].item() ** 2) ** 0.5
    x_c, x_a = (noise * start).to(DEVICE), (auxiliary_noise(noise, 3) * start).to(DEVICE)
    sigmas = sigmas.to(DEVICE)
    last_active = sampling.percent_to_sigma(0.5)
    for sigma, following in zip(sigmas[:-1], sigmas[1:]):
        unconditional = epsilon(x_c, sigma, guider.conds["negative"])
        if sigma > last_active:
            e_a = epsilon(x_a, sigma, guider.conds["auxiliary"], capture)
            e_c = epsilon(x_c, sigma, guider.conds["positive"], inject)
            e_u = unconditional if share_guidance else epsilon(x_a, sigma, guider.conds["negative"])
            next_a = x_a + (following - sigma) * (e_u + 5.0 * (e_a - e_u))
            if fine and following > 0:
                count = max(1, round(abs(torch.log(sigma / following).item()) / 0.03))
                contracted = (1.0 + 5.0 * ((following / sigma) ** (1.0 / count) - 1.0)) ** count
                difference = (x_a - sigma * e_a) - (x_c - sigma * e_c)
                next_c = x_c + (following - sigma) * (unconditional + 5.0 * (e_c - unconditional))
                next_a = next_c + difference + contracted * (x_a - x_c - difference)
            x_a = next_a
        else:
            e_c = epsilon(x_c, sigma, guider.conds["positive"])
        x_c = x_c + (following - sigma) * (unconditional + 5.0 * (e_c - unconditional))
    return guider.inner_model.process_latent_out(x_c).cpu()


def _loaded_guider(s: Scene) -> Any:
    carried = s.positive[0][1][CARRIED_KEY]
    guider = comfy.samplers.CFGGuider(s.model)
    auxiliary = [[carried.cross_attn, {"pooled_output": carried.pooled_output}]]
    guider.inner_set_conds({"positive": s.positive, "negative": s.negative, "auxiliary": auxiliary})
    comfy.model_management.load_models_gpu([s.model])
    guider.inner_model = s.model.model
    guider.inner_model.current_patcher = s.model
    conds = {name: [dict(cond) for cond in entries] for name, entries in guider.original_conds.items()}
    noise = torch.zeros(2, 4, 8, 8, device=DEVICE)
    guider.conds = comfy.samplers.process_conds(guider.inner_model, noise, conds, noise.device, noise)
    return guider
