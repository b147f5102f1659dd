"""DCI beside the host's model-patching nodes: both act, in either order, and the forced blend is the stock sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.ldm.modules.attention as host_attention
import comfy.samplers
import comfy_api.torch_helpers.torch_compile as torch_compile
import comfy_extras.nodes_differential_diffusion as differential
import comfy_extras.nodes_easycache as easycache
import comfy_extras.nodes_freelunch as freelunch
import comfy_extras.nodes_hypertile as hypertile
import comfy_extras.nodes_model_advanced as model_advanced
import comfy_extras.nodes_model_downscale as downscale
import comfy_extras.nodes_nag as nag
import comfy_extras.nodes_pag as pag
import comfy_extras.nodes_perpneg as perpneg
import comfy_extras.nodes_sag as sag
import comfy_extras.nodes_tomesd as tomesd
import pytest
import torch
from auxiliary_path import auxiliary_latents
from comfy.patcher_extension import WrappersMP
from rows_seen import assert_only_the_positive_is_blended, rows_seen
from scenes import dci, encode, ksample, relative_difference, scene

pytestmark = pytest.mark.sweep

SIZE = 16


def first(node_output: Any) -> Any:
    return node_output[0] if isinstance(node_output, tuple) else node_output.result[0]


def lora(model: Any) -> Any:
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    weight = model.get_key_patches("diffusion_model.")[key][0][0]
    clone = model.clone()
    delta = 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(4))
    assert clone.add_patches({key: ("diff", (delta,))}, 0.8) == [key]
    return clone


def model_function_wrapper(model: Any) -> Any:
    """A wrapper that runs every conditioning alone, as low-memory packs do, and scales the prediction."""

    def one_by_one(apply_model: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        assert args["c"]["transformer_options"]["cond_or_uncond"] == args["cond_or_uncond"]
        return 0.9 * apply_model(args["input"], args["timestep"], **args["c"])

    clone = model.clone()
    clone.set_model_unet_function_wrapper(one_by_one)
    return clone


def own_batching(model: Any) -> Any:
    """A calc_cond_batch function that asks for each condition alone, in lists of its own."""

    def one_by_one(args: dict[str, Any]) -> list[torch.Tensor]:
        request = args["input"], args["sigma"], args["model_options"]
        copies = [None if cond is None else list(cond) for cond in args["conds"]]
        return [0.9 * comfy.samplers.calc_cond_batch(args["model"], [cond], *request)[0] for cond in copies]

    clone = model.clone()
    clone.set_model_sampler_calc_cond_batch_function(one_by_one)
    return clone


def attention_override(model: Any) -> Any:
    def sharper(attend: Callable[..., torch.Tensor], q: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return attend(1.2 * q, *args, **kwargs)

    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = sharper
    return clone


def attn2_list_patch(model: Any) -> Any:
    """The host's list patch before the projections; this one appends four tokens to the text, as adapters do."""

    def append(n: Any, context: Any, value: Any, extra: Any) -> Any:
        more = torch.cat([context, context[:, :4] * 0.5], dim=1)
        return n, more, more

    clone = model.clone()
    clone.set_model_attn2_patch(append)
    return clone


def attn2_output_patch(model: Any) -> Any:
    clone = model.clone()
    clone.set_model_attn2_output_patch(lambda out, extra: 1.1 * out)
    return clone


def deprecated_perp_neg(model: Any) -> Any:
    return first(perpneg.PerpNeg.execute(model, encode(scene().clip, ""), 1.0))


NODES: dict[str, Callable[[Any], Any]] = {
    "perturbed attention": lambda m: first(pag.PerturbedAttentionGuidance.execute(m, 2.0)),
    "self-attention guidance": lambda m: first(sag.SelfAttentionGuidance.execute(m, 0.7, 2.0)),
    "normalized attention": lambda m: first(nag.NAGuidance.execute(m, 5.0, 0.5, 1.5)),
    "perp-neg": deprecated_perp_neg,
    "rescale cfg": lambda m: first(model_advanced.RescaleCFG().patch(m, 0.7)),
    "v-prediction, zero terminal snr": lambda m: first(
        model_advanced.ModelSamplingDiscrete().patch(m, "v_prediction", True)
    ),
    "lcm": lambda m: first(model_advanced.ModelSamplingDiscrete().patch(m, "lcm", False)),
    "continuous edm": lambda m: first(model_advanced.ModelSamplingContinuousEDM().patch(m, "v_prediction", 14.6, 0.03)),
    "freeu": lambda m: first(freelunch.FreeU.execute(m, 1.1, 1.2, 0.9, 0.2)),
    "freeu v2": lambda m: first(freelunch.FreeU_V2.execute(m, 1.3, 1.4, 0.9, 0.2)),
    "token merging": lambda m: first(tomesd.TomePatchModel.execute(m, 0.5)),
    "hypertile": lambda m: first(hypertile.HyperTile.execute(m, 32, 2, 1, True)),
    "deep shrink": lambda m: first(
        downscale.PatchModelAddDownscale.execute(m, 3, 2.0, 0.0, 0.35, True, "bicubic", "bicubic")
    ),
    "lora": lora,
    "model function wrapper": model_function_wrapper,
    "calc_cond_batch function": own_batching,
    "attention override": attention_override,
    "attn2 list patch": attn2_list_patch,
    "attn2 output patch": attn2_output_patch,
}


def sampled(model: Any) -> torch.Tensor:
    s = scene()
    return ksample(model, s.positive, s.negative, "euler_ancestral", size=SIZE, steps=4)


@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize("name", NODES)
def test_a_blend_forced_to_the_concept_is_the_stock_sampler_with_the_node(name: str, share_guidance: bool) -> None:
    patched = NODES[name](scene().model)
    forced = dci(patched, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(sampled(forced), sampled(patched))


@pytest.mark.parametrize("name", NODES)
def test_both_act_in_either_order(name: str) -> None:
    model, node = scene().model, NODES[name]
    before = sampled(dci(node(model)))
    assert torch.equal(before, sampled(node(dci(model))))
    assert relative_difference(before, sampled(dci(model))) > 1e-4  # the node acts
    assert relative_difference(before, sampled(node(model))) > 1e-4  # and so does DCI


@pytest.mark.parametrize("name", NODES)
def test_only_the_positive_rows_are_blended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with rows_seen(monkeypatch) as seen:
        sampled(dci(NODES[name](scene().model)))
    assert_only_the_positive_is_blended(seen)


def forwards(model: Any) -> list[int]:
    """Return the rows of each forward that the network really computes in a run of ten steps."""
    s, rows = scene(), []
    watched = model.clone()

    def count(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        rows.append(x.shape[0])
        return executor(x, *args, **kwargs)

    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "innermost", count)
    ksample(watched, s.positive, s.negative, steps=10)
    return rows


def cached(model: Any, start: float = 0.0) -> Any:
    """The host's EasyCache with so high a threshold that it skips whatever it may."""
    return first(easycache.EasyCacheNode.execute(model, 3.0, start, 0.95, False))


def test_cached_forwards_begin_after_the_active_part_in_either_order() -> None:
    s = scene()
    plain, ours = forwards(cached(s.model)), forwards(dci(cached(s.model), active_fraction=0.45))
    assert 2 <= len(plain) < 6
    assert ours[:10] == [1, 2] * 5  # five active steps, none of them skipped
    assert 2 <= len(ours) - 10 < 5 and set(ours[10:]) == {2}  # and then as many left out as without DCI
    assert forwards(cached(dci(s.model, active_fraction=0.45))) == ours
    late = cached(s.model, start=0.6)
    stock = ksample(late, s.positive, s.negative, steps=10)
    forced = dci(late, forced_auxiliary_weight=0.0, active_fraction=0.4)
    assert torch.equal(ksample(forced, s.positive, s.negative, steps=10), stock)


def test_lazily_skipped_steps_are_skipped_with_both_branches() -> None:
    s = scene()
    lazy = first(easycache.LazyCacheNode.execute(s.model, 3.0, 0.0, 0.95, False))
    assert relative_difference(sampled(dci(lazy)), sampled(lazy)) > 1e-4
    late = first(easycache.LazyCacheNode.execute(s.model, 3.0, 0.6, 0.95, False))
    assert torch.equal(sampled(dci(late, forced_auxiliary_weight=0.0)), sampled(late))


def test_a_soft_mask_that_changes_with_time_acts_on_both_branches() -> None:
    """Differential Diffusion: each pixel is free from its own step on."""
    s = scene()
    model = first(differential.DifferentialDiffusion.execute(s.model))
    image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    latent = {"samples": image, "noise_mask": torch.linspace(0, 1, 64).expand(1, 64, 64)[:, None]}

    def run(model: Any) -> torch.Tensor:
        return ksample(model, s.positive, s.negative, latent=latent, steps=6)

    assert relative_difference(run(model), run(s.model)) > 1e-4
    for share_guidance in (True, False):
        assert torch.equal(run(dci(model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)), run(model))
    assert relative_difference(run(dci(model)), run(model)) > 1e-4
    seen = [latents for _, latents in auxiliary_latents(dci(model), s.positive, s.negative, latent=latent, steps=6)]
    hard = [latents for _, latents in auxiliary_latents(dci(s.model), s.positive, s.negative, latent=latent, steps=6)]
    assert len(seen) == len(hard) == 3 and not any(torch.equal(one, other) for one, other in zip(seen, hard))


def compiled(model: Any) -> Any:
    """What the host's TorchCompileModel node makes, with torch's eager backend: the same tracing, no compiler."""
    clone = model.clone()
    guards = {"guard_filter_fn": lambda entries: ["transformer_options" not in entry.name for entry in entries]}
    torch_compile.set_torch_compile_wrapper(clone, backend="eager", options=guards)
    return clone


def calls_of_the_compiled_network(model: Any, patch: Callable[[Any], Any] = lambda model: model) -> int:
    """Return how often a run of four steps goes through the compiled network."""
    s, clone, calls = scene("mini"), compiled(model), []
    (wrapper,) = clone.wrappers[WrappersMP.APPLY_MODEL][torch_compile.COMPILE_KEY]

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return wrapper(executor, *args, **kwargs)

    clone.wrappers[WrappersMP.APPLY_MODEL][torch_compile.COMPILE_KEY] = [count]
    ksample(patch(clone), s.positive, s.negative)
    return len(calls)


def test_a_compiled_model_samples_as_the_plain_one_and_stays_compiled_after_the_active_part() -> None:
    s = scene("mini")
    torch.compiler.reset()
    stock = ksample(compiled(s.model), s.positive, s.negative)
    assert calls_of_the_compiled_network(s.model) == 4 and calls_of_the_compiled_network(s.model, dci) == 2
    for settings in ({"forced_auxiliary_weight": 0.0}, {"injection_strength": 1.0}, {"layers": "last"}):
        ours = ksample(dci(compiled(s.model), **settings), s.positive, s.negative)
        assert relative_difference(ours, ksample(dci(s.model, **settings), s.positive, s.negative)) < 1e-5
    again = ksample(compiled(s.model), s.positive, s.negative)
    assert torch.equal(again, stock)


@pytest.mark.parametrize("backend", ["attention_pytorch", "attention_split", "attention_sub_quad", "attention_basic"])
def test_every_attention_backend_keeps_the_identity(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    usual = ksample(dci(s.model), s.positive, s.negative)
    attend, calls = getattr(host_attention, backend), []
    monkeypatch.setattr(host_attention, "optimized_attention", lambda *a, **k: calls.append(1) or attend(*a, **k))
    stock = ksample(s.model, s.positive, s.negative)
    assert torch.equal(ksample(dci(s.model, forced_auxiliary_weight=0.0), s.positive, s.negative), stock)
    calls.clear()
    assert relative_difference(ksample(dci(s.model), s.positive, s.negative), usual) < 1e-4
    assert len(calls) == 6 * 32  # four steps and two auxiliary passes, 16 layers each of self- and of cross-attention
