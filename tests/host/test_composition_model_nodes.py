"""DCI beside the host's model-patching nodes: both act, in either order, and the forced blend is the stock sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.ldm.modules.attention as host_attention
import comfy.samplers
import comfy_api.torch_helpers.torch_compile as torch_compile
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
from scenes import dci, encode, ksample, relative_difference, scene

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


def compiled(model: Any) -> Any:
    """What the host's TorchCompileModel node makes, with torch's eager backend: the same tracing, no compiler."""
    clone = model.clone()
    guards = {"guard_filter_fn": lambda entries: ["transformer_options" not in entry.name for entry in entries]}
    torch_compile.set_torch_compile_wrapper(clone, backend="eager", options=guards)
    return clone


def test_a_compiled_model_samples_as_the_plain_one_and_stays_compiled_after_the_active_part() -> None:
    s = scene("mini")
    torch.compiler.reset()
    stock = ksample(compiled(s.model), s.positive, s.negative)
    for settings in ({"forced_auxiliary_weight": 0.0}, {"injection_strength": 1.0}, {"layers": "last"}):
        ours = ksample(dci(compiled(s.model), **settings), s.positive, s.negative)
        assert relative_difference(ours, ksample(dci(s.model, **settings), s.positive, s.negative)) < 1e-5
    again = ksample(compiled(s.model), s.positive, s.negative)
    assert torch.equal(again, stock)


@pytest.mark.parametrize("backend", ["attention_pytorch", "attention_split", "attention_sub_quad", "attention_basic"])
def test_every_attention_backend_keeps_the_identity(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    usual = ksample(dci(s.model), s.positive, s.negative)
    monkeypatch.setattr(host_attention, "optimized_attention", getattr(host_attention, backend))
    stock = ksample(s.model, s.positive, s.negative)
    assert torch.equal(ksample(dci(s.model, forced_auxiliary_weight=0.0), s.positive, s.negative), stock)
    assert relative_difference(ksample(dci(s.model), s.positive, s.negative), usual) < 1e-4
