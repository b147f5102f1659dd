"""Small stand-ins of the hook patterns of other packs: both act, or the pack is refused by name.

The patterns are those of IPAdapter_plus, prompt-control's and ppm's attention couples, densediffusion and DAAM; nothing of
theirs is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.hooks
import pytest
import torch
from adapters import add_adapter
from comfy.ldm.modules.attention import BasicTransformerBlock, optimized_attention
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.sampling.layers import cross_attention_layers
from comfyui_dci.nodes.host.sampling.other_parties import name_parties
from scenes import dci, encode, ksample, relative_difference, scene

pytestmark = pytest.mark.sweep


def dense_diffusion(model: Any) -> Any:
    """densediffusion's: attn2 replaced on every layer by attention of its own, with a bias on tokens and pixels."""

    def attend(q: Any, k: Any, v: Any, extra: dict[str, Any]) -> Any:
        heads = extra["n_heads"]
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        bias = torch.linspace(-1, 1, k.shape[2], device=q.device).expand(q.shape[2], -1)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(-2)

    clone = model.clone()
    for layer in cross_attention_layers(model.model.diffusion_model):
        clone.set_model_attn2_replace(attend, *layer)
    return clone


def heatmaps(model: Any) -> Any:
    """DAAM's: attn2 replaced to look at the probabilities, the output left as it is."""
    clone = model.clone()

    def watch(q: Any, k: Any, v: Any, extra: dict[str, Any]) -> Any:
        heat_maps.append((q @ k.transpose(1, 2)).softmax(-1).mean().item())
        return optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra)

    for layer in cross_attention_layers(model.model.diffusion_model):
        clone.set_model_attn2_replace(watch, *layer)
    return clone


heat_maps: list[float] = []


def enlarge(q: Any, k: Any, v: Any, extra: dict[str, Any]) -> Any:
    """A couple's list patch: it runs every row twice."""
    return tuple(t.repeat_interleave(2, 0) for t in (q, k, v))


def merge(out: Any, extra: dict[str, Any]) -> Any:
    """A couple's output patch: it merges what the list patch doubled, here unequally."""
    return out.unflatten(0, (-1, 2)).mean(1) + 0.1 * out[::2]


def attention_couple(model: Any) -> Any:
    """ppm's couple: on the model."""
    clone = model.clone()
    clone.set_model_attn2_patch(enlarge)
    clone.set_model_attn2_output_patch(merge)
    return clone


def coupled(cond: Any) -> Any:
    """prompt-control's couple: on the rows of one conditioning."""
    hook = comfy.hooks.TransformerOptionsHook(
        {"patches": {"attn2_patch": [enlarge], "attn2_output_patch": [merge]}}, comfy.hooks.EnumHookScope.HookedOnly
    )
    hooks = comfy.hooks.HookGroup()
    hooks.add(hook)
    return comfy.hooks.set_hooks_for_conditioning(cond, hooks)


def row_splitter(model: Any) -> Any:
    """A model wrapper that runs row by row and leaves the ids of the whole batch in place."""

    def one_by_one(apply_model: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        outputs = []
        for row in range(args["input"].shape[0]):
            conds = {key: value[row : row + 1] if torch.is_tensor(value) else value for key, value in args["c"].items()}
            outputs.append(apply_model(args["input"][row : row + 1], args["timestep"][row : row + 1], **conds))
        return torch.cat(outputs)

    clone = model.clone()
    clone.set_model_unet_function_wrapper(one_by_one)
    return clone


COMPOSING: dict[str, Callable[[Any], Any]] = {
    "adapter": lambda m: add_adapter(m, 0.4),
    "adapter with short keys": lambda m: add_adapter(m, 0.4, depth=False),
    "two adapters": lambda m: add_adapter(add_adapter(m, 0.4), 0.7),
    "dense diffusion": dense_diffusion,
}


@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize("name", COMPOSING)
def test_packs_that_replace_attention_act_with_ours_in_either_order(name: str, share_guidance: bool) -> None:
    s, pack = scene(), COMPOSING[name]
    stock = ksample(pack(s.model), s.positive, s.negative)
    forced = {"forced_auxiliary_weight": 0.0, "share_guidance": share_guidance}
    assert torch.equal(ksample(dci(pack(s.model), **forced), s.positive, s.negative), stock)
    assert torch.equal(ksample(pack(dci(s.model, **forced)), s.positive, s.negative), stock)
    ours = ksample(dci(pack(s.model), share_guidance=share_guidance), s.positive, s.negative)
    assert torch.equal(ksample(pack(dci(s.model, share_guidance=share_guidance)), s.positive, s.negative), ours)
    assert relative_difference(ours, stock) > 1e-4
    assert relative_difference(ours, ksample(dci(s.model), s.positive, s.negative)) > 1e-4


def test_an_adapter_may_be_added_before_and_after_ours() -> None:
    s = scene()
    around = add_adapter(dci(add_adapter(s.model, 0.4)), 0.7)
    before = dci(add_adapter(add_adapter(s.model, 0.4), 0.7))
    assert torch.equal(ksample(around, s.positive, s.negative), ksample(before, s.positive, s.negative))


def test_heatmaps_are_drawn_and_change_nothing() -> None:
    s = scene()
    heat_maps.clear()
    ours = ksample(heatmaps(dci(s.model)), s.positive, s.negative, steps=2)
    assert torch.equal(ours, ksample(dci(s.model), s.positive, s.negative, steps=2))
    assert len(heat_maps) == 16 * 3  # one active step with the auxiliary branch, one plain one


@pytest.mark.parametrize(
    ("pack", "name"),
    [(attention_couple, "enlarge"), (row_splitter, "row_splitter.<locals>.one")],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_packs_that_rearrange_rows_are_refused_by_name(pack: Any, name: str, batch: int) -> None:
    s = scene()
    stock = ksample(pack(s.model), s.positive, s.negative, batch=batch)
    for blocked in (dci(pack(s.model)), pack(dci(s.model))):
        if pack is row_splitter and batch == 1:  # the auxiliary branch's single row passes, the two rows do not
            blocked = dci(pack(s.model), share_guidance=False)
        with pytest.raises(UserInputError, match=f"rows instead of .*conditionings.*Acting on this model: .*{name}"):
            ksample(blocked, s.positive, s.negative, batch=batch)
    neutral = dci(pack(s.model), active_fraction=0.0)
    assert torch.equal(ksample(neutral, s.positive, s.negative, batch=batch), stock)


@pytest.mark.parametrize("share_guidance", [True, False])
def test_a_couple_on_another_conditioning_acts_beside_ours(share_guidance: bool) -> None:
    s = scene()
    other = encode(s.clip, "a castle")
    positive, negative = s.positive + coupled(other), coupled(s.negative)
    stock = ksample(s.model, positive, negative)
    forced = dci(s.model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(ksample(forced, positive, negative), stock)
    ours = dci(s.model, share_guidance=share_guidance)
    assert relative_difference(ksample(ours, positive, negative), stock) > 1e-4
    uncoupled = ksample(ours, s.positive + other, s.negative)
    assert relative_difference(ksample(ours, positive, negative), uncoupled) > 1e-4


def test_a_couple_on_our_own_conditioning_is_refused_by_name() -> None:
    s = scene()
    with pytest.raises(UserInputError, match="rows instead of .*Acting on this model: enlarge"):
        ksample(dci(s.model), coupled(s.positive), s.negative)


def test_a_pack_is_named_by_its_folder() -> None:
    def theirs() -> None: ...

    for path in ("/home/me/ComfyUI/custom_nodes/their-pack.nodes", r"C:\ComfyUI\custom_nodes\their-pack.nodes"):
        theirs.__module__ = path
        assert name_parties({"patches": {"attn2_patch": [theirs]}}, {}).endswith("theirs (their-pack.nodes)")


def test_a_pack_that_shortens_the_text_is_refused_by_name() -> None:
    s = scene()
    model = s.model.clone()

    def merge_tokens(n: Any, context: Any, value: Any, extra: dict[str, Any]) -> Any:
        return n, context[:, :40], context[:, :40]

    model.set_model_attn2_patch(merge_tokens)
    with pytest.raises(UserInputError, match="shortened to 40 of its 77 tokens.*merge_tokens"):
        ksample(dci(model), s.positive, s.negative)


def test_a_pack_that_changes_the_size_of_one_branch_is_refused_by_name() -> None:
    s = scene()
    model = s.model.clone()

    def shrink(h: Any, options: dict[str, Any]) -> Any:
        alone = len(options["cond_or_uncond"]) == 1
        return torch.nn.functional.avg_pool2d(h, 2) if alone and options["block"] == ("input", 1) else h

    def grow(h: Any, hsp: Any, options: dict[str, Any]) -> Any:
        return torch.nn.functional.interpolate(h, hsp.shape[-2:]) if h.shape[-1] != hsp.shape[-1] else h, hsp

    model.set_model_input_block_patch(shrink)
    model.set_model_output_block_patch(grow)
    with pytest.raises(UserInputError, match="no output that fits.*shrink"):
        ksample(dci(model), s.positive, s.negative, size=16)


def test_all_cross_attention_layers_are_known() -> None:
    network = scene().model.model.diffusion_model
    blocks = [module for module in network.modules() if isinstance(module, BasicTransformerBlock)]
    assert len(cross_attention_layers(network)) == len(blocks)
