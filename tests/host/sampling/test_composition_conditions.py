"""DCI beside the host's conditioning nodes: the rows blended are the positive's, and both branches get the same."""

from __future__ import annotations

from typing import Any

import comfy.hooks
import comfy.ldm.modules.attention
import comfy_extras.nodes_hooks as hook_nodes
import nodes as host_nodes
import pytest
import torch
from auxiliary_path import auxiliary_latents
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.sampling.attention import DualBranchAttention
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY
from comfyui_dci.nodes.host.sampling.layer_call import TEXT_LENGTH, LayerCall
from conditions import lora_hooked
from rows_seen import ROUNDING, assert_only_the_positive_is_blended, rows_seen, rows_split
from scenes import dci, encode, ksample, positive, relative_difference, scene

pytestmark = pytest.mark.sweep


def combine(a: Any, b: Any) -> Any:
    return host_nodes.ConditioningCombine().combine(a, b)[0]


def concatenated(to: Any, text: str) -> Any:
    return host_nodes.ConditioningConcat().concat(to, encode(scene().clip, text))[0]


def averaged(to: Any, text: str, strength: float) -> Any:
    return host_nodes.ConditioningAverage().addWeighted(to, encode(scene().clip, text), strength)[0]


def in_timesteps(cond: Any, start: float, end: float) -> Any:
    return host_nodes.ConditioningSetTimestepRange().set_range(cond, start, end)[0]


def masked(cond: Any, area: str) -> Any:
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 24:56] = 1.0
    return host_nodes.ConditioningSetMask().append(cond, mask, area, 1.0)[0]


def replacing_hook(cond: Any, key: tuple[Any, ...], scope: Any) -> Any:
    """A hook that replaces attn2 for the rows of its conditioning, or for all rows."""

    def attend(q: Any, k: Any, v: Any, extra: dict[str, Any]) -> Any:
        return comfy.ldm.modules.attention.optimized_attention(q, k, v, extra["n_heads"]) + 0.4 * q

    hooks = comfy.hooks.HookGroup()
    hooks.add(comfy.hooks.TransformerOptionsHook({"patches_replace": {"attn2": {key: attend}}}, hook_scope=scope))
    return comfy.hooks.set_hooks_for_conditioning(cond, hooks)


CONDITIONS = {
    "combine with a plain one": lambda p: combine(p, encode(scene().clip, "a castle")),
    "combine with another": lambda p: combine(p, positive(scene().clip, "a V* in the snow")),
    "concat": lambda p: concatenated(p, "a watercolour"),
    "timestep range": lambda p: combine(
        in_timesteps(p, 0.0, 0.3), in_timesteps(positive(scene().clip, "a V* in the snow"), 0.3, 1.0)
    ),
    "mask": lambda p: masked(p, "default"),
    "mask with its bounds as area": lambda p: masked(p, "mask bounds"),
    "area in shares": lambda p: combine(
        host_nodes.ConditioningSetAreaPercentage().append(p, 0.5, 1.0, 0.5, 0.0, 1.0)[0],
        encode(scene().clip, "a castle"),
    ),
    "the rest by default": lambda p: hook_nodes.ConditioningSetDefaultAndCombine().set_default_and_combine(
        masked(p, "mask bounds"), encode(scene().clip, "a castle")
    )[0],
    "lora hook": lora_hooked,
    "lora hook on one of two": lambda p: combine(lora_hooked(p), positive(scene().clip, "a V* in the snow")),
    "replacing hook, hooked only": lambda p: replacing_hook(p, ("input", 1, 0), comfy.hooks.EnumHookScope.HookedOnly),
    "replacing hook, short key": lambda p: replacing_hook(p, ("input", 1), comfy.hooks.EnumHookScope.HookedOnly),
    "replacing hook, everywhere": lambda p: replacing_hook(p, ("middle", 0), comfy.hooks.EnumHookScope.AllConditioning),
}


@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_forced_blend_is_the_stock_sampler_and_both_act(name: str, share_guidance: bool) -> None:
    s = scene()
    cond = CONDITIONS[name](s.positive)
    stock = ksample(s.model, cond, s.negative)
    forced = dci(s.model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(ksample(forced, cond, s.negative), stock)
    ours = ksample(dci(s.model, share_guidance=share_guidance), cond, s.negative)
    assert relative_difference(ours, stock) > 1e-4
    usual = ksample(dci(s.model, share_guidance=share_guidance), s.positive, s.negative)
    assert relative_difference(ours, usual) > 1e-5


@pytest.mark.parametrize("name", CONDITIONS)
def test_only_the_positive_rows_are_blended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    with rows_seen(monkeypatch) as seen:
        ksample(dci(s.model), CONDITIONS[name](s.positive), s.negative)
    two = name in ("combine with another", "timestep range", "lora hook on one of two")
    assert_only_the_positive_is_blended(seen, positives=2 if two else 1)


@pytest.mark.parametrize("name", CONDITIONS)
def test_splitting_the_rows_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    cond = CONDITIONS[name](s.positive)
    together = ksample(dci(s.model), cond, s.negative, batch=2)
    with rows_split(monkeypatch):
        assert relative_difference(ksample(dci(s.model), cond, s.negative, batch=2), together) < ROUNDING


def hooked_clip(clip: Any) -> Any:
    """What Create Hook LoRA, Create Hook Keyframe and Set CLIP Hooks make: another text encoder after 30 %."""
    key = "clip_l.transformer.text_model.encoder.layers.1.self_attn.v_proj.weight"
    weight = clip.patcher.get_key_patches()[key][0][0]
    hooks = comfy.hooks.create_hook_lora({}, 0.0, 1.0)
    hooks.hooks[0].weights_clip = {key: ("diff", (0.3 * torch.ones_like(weight),))}
    hooks.hooks[0].need_weight_init = False
    keyframes = comfy.hooks.HookKeyframeGroup()
    keyframes.add(comfy.hooks.HookKeyframe(0.0, 0.0, 0))
    keyframes.add(comfy.hooks.HookKeyframe(1.0, 0.3, 0))
    hooks.set_keyframes_on_hooks(keyframes)
    return hook_nodes.SetClipHooks().apply_hooks(clip, True, True, hooks)[0]


@pytest.mark.parametrize("share_guidance", [True, False])
def test_texts_of_a_scheduled_text_encoder_come_in_pairs(share_guidance: bool) -> None:
    s = scene()
    with torch.inference_mode():
        clip = hooked_clip(s.clip)
        cond, expected = positive(clip), encode(clip, "a dog in times square, at night")
    assert len(cond) == len(expected) == 2 and not torch.equal(cond[0][0], cond[1][0])
    for (_, options), (text, _) in zip(cond, expected):
        assert torch.equal(options[CARRIED_KEY].cross_attn, text)
    stock = ksample(s.model, cond, s.negative)
    forced = dci(s.model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(ksample(forced, cond, s.negative), stock)
    ours = dci(s.model, share_guidance=share_guidance, active_fraction=0.9)
    assert relative_difference(ksample(ours, cond, s.negative), stock) > 1e-4
    seen = auxiliary_latents(dci(s.model, active_fraction=0.9), cond, s.negative)
    assert seen and all(len(conds) == 2 for conds, _ in seen)


@pytest.mark.parametrize("scope", list(comfy.hooks.EnumHookScope))
@pytest.mark.parametrize("key", [("input", 1, 0), ("input", 1)])
def test_a_replacing_hook_acts_on_both_branches(
    key: tuple[Any, ...], scope: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scene()
    outputs: list[torch.Tensor] = []
    record = DualBranchAttention.record

    def watch(self: Any, inner: Any, call: LayerCall, records: Any) -> Any:
        out = record(self, inner, call, records)
        if call.layer == ("input", 1, 0):
            plain = comfy.ldm.modules.attention.optimized_attention(call.q, call.k, call.v, call.heads)
            outputs.append((out - plain) / call.q)
        return out

    monkeypatch.setattr(DualBranchAttention, "record", watch)
    ksample(dci(s.model), replacing_hook(s.positive, key, scope), s.negative)
    assert outputs and all(torch.allclose(ratio, torch.tensor(0.4), atol=1e-2) for ratio in outputs)


def test_concatenated_words_reach_both_branches() -> None:
    s = scene()
    cond = concatenated(s.positive, "a watercolour")
    own = s.positive[0][1][CARRIED_KEY]
    appended = encode(s.clip, "a watercolour")[0][0]
    seen = auxiliary_latents(dci(s.model), cond, s.negative)
    assert seen
    for conds, _ in seen:
        text = conds[0]["model_conds"]["c_crossattn"].cond
        assert torch.equal(text, torch.cat([own.cross_attn, appended], dim=1))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_text_changed_afterwards_is_refused_before_sampling(family: str) -> None:
    s = scene(family)
    (changed,) = host_nodes.ConditioningAverage().addWeighted(s.positive, encode(s.clip, "a painting"), 0.7)
    with pytest.raises(UserInputError, match="changed after AuxPromptBuilder, by ConditioningAverage"):
        ksample(dci(s.model), changed, s.negative)
    with pytest.raises(UserInputError, match="changed after AuxPromptBuilder"):
        ksample(dci(s.model), host_nodes.ConditioningZeroOut().zero_out(s.positive)[0], s.negative)
    neutral = dci(s.model, active_fraction=0.0)
    assert torch.equal(ksample(neutral, changed, s.negative), ksample(s.model, changed, s.negative))
    (whole,) = host_nodes.ConditioningAverage().addWeighted(s.positive, encode(s.clip, "a painting"), 1.0)
    assert torch.equal(ksample(dci(s.model), whole, s.negative), ksample(dci(s.model), s.positive, s.negative))


def test_averaged_or_concatenated_negatives_and_neighbours_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    negative = averaged(concatenated(s.negative, "text"), "noise", 0.5)
    cond = combine(s.positive, averaged(encode(s.clip, "a castle"), "a painting", 0.5))
    stock = ksample(s.model, cond, negative)
    assert torch.equal(ksample(dci(s.model, forced_auxiliary_weight=0.0), cond, negative), stock)
    with rows_seen(monkeypatch) as seen:
        ksample(dci(s.model), cond, negative)
    assert len({key for key, _, blended in seen if blended}) == 1
    assert not any(blended for _, index, blended in seen if index == 1)


def test_each_timestep_range_runs_only_its_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    early, late = in_timesteps(s.positive, 0.0, 0.4), in_timesteps(positive(s.clip, "a V* asleep"), 0.4, 1.0)
    seen = auxiliary_latents(dci(s.model, active_fraction=0.9), combine(early, late), s.negative)
    assert len(seen) == 3  # one twin a step: the other is outside its range
    with rows_seen(monkeypatch) as rows:
        ksample(dci(s.model, active_fraction=0.9), combine(early, late), s.negative)
    blended = [key for key, _, changed in rows if changed]
    assert len(set(blended)) == 2 and blended == sorted(blended, key=blended.index)  # first one, then the other


def test_words_appended_by_a_list_patch_beside_a_longer_negative_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The positive is repeated to the negative's length and a patch appends to that: the same as alone."""
    s = scene()
    model = s.model.clone()

    def append(n: Any, context: Any, value: Any, extra: Any) -> Any:
        assert TEXT_LENGTH not in extra or context.shape[1] == extra[TEXT_LENGTH]
        own = context[:, -77:] if context.shape[1] == 154 else context
        more = torch.cat([context, own.repeat(1, context.shape[1] // 77, 1)], dim=1)
        return n, more, more

    model.set_model_attn2_patch(append)
    long = encode(s.clip, "blurry, " * 60)
    together = ksample(dci(model), s.positive, long, cfg=1.2)
    with rows_split(monkeypatch):
        assert relative_difference(ksample(dci(model), s.positive, long, cfg=1.2), together) < ROUNDING
