"""The auxiliary branch alone runs with LoRA at a share of its strength."""

from __future__ import annotations

from typing import Any

import comfy.hooks
import comfy.model_management
import comfy_extras.nodes_hooks as hook_nodes
import nodes as host_nodes
import pytest
import torch
from comfy.model_patcher import LowVramPatch, ModelPatcher
from comfyui_dci.dci_core.sampling.settings import AuxiliarySteps, DCISettings
from comfyui_dci.nodes.host.sampling.auxiliary_memory import AuxiliaryMemory
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from conditions import lora_hooked
from scenes import Scene, dci, encode, ksample, positive, relative_difference, scene
from weights_seen import (
    AUXILIARY,
    KINDS,
    OTHERS,
    Seen,
    assert_other_weights,
    assert_same_weights,
    keys_of,
    loaded_weights,
    lora_file,
    lora_scene,
    of_branch,
    watching_weights,
    weak,
    with_lora,
)

HOOKED = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"


def weights_of_run(model: Any, cond: Any, negative: Any, keys: list[str], **options: Any) -> Seen:
    """Return the weights of each forward of a run with DCI."""
    settings = {name: options.pop(name) for name in ("share_guidance", "active_fraction") if name in options}
    watched, seen = watching_weights(dci(model, **settings), keys)
    ksample(watched, cond, negative, **options)
    return seen


@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_auxiliary_forward_has_the_weights_of_the_loader_at_that_strength(kind: str, strength: float) -> None:
    s, model, keys = lora_scene(kind=kind)
    base, whole = loaded_weights(s.base.model, keys), loaded_weights(model, keys)
    if kind == "set":  # which the loader does not scale
        expected = {key: base[key] + strength * (whole[key] - base[key]) for key in keys}
    else:
        expected = loaded_weights(with_lora(s.base.model, lora_file(s.base.model, kind), 0.8 * strength), keys)
    seen = weights_of_run(model, weak(s.positive, strength), s.negative, keys)
    assert_other_weights(of_branch(seen, AUXILIARY), whole)
    assert_same_weights(of_branch(seen, AUXILIARY), expected, 1e-6 if kind == "set" else 0.0)
    assert_same_weights(of_branch(seen, OTHERS), whole)
    if strength == 0:
        assert_same_weights(of_branch(seen, AUXILIARY), base)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_several_lora_and_a_concept_are_weakened_together(family: str) -> None:
    s = scene(family)
    first, second = (lora_file(s.base.model, kind, seed) for kind, seed in (("lora", 1), ("lokr", 2)))
    keys = [*keys_of(s.base.model), *list(s.model.patches)[-2:]]
    model = with_lora(with_lora(s.model, first, 1.2), second, -0.7)
    half = s.base.model.clone()
    half.add_patches({key: patches[0][1] for key, patches in s.model.patches.items()}, 0.5)
    half = with_lora(with_lora(half, first, 0.6), second, -0.35)
    seen = weights_of_run(model, weak(s.positive, 0.5), s.negative, keys)
    assert_same_weights(of_branch(seen, AUXILIARY), loaded_weights(half, keys))
    assert_same_weights(of_branch(seen, OTHERS), loaded_weights(model, keys))
    assert_other_weights(of_branch(seen, AUXILIARY), loaded_weights(model, keys))


def test_half_precision_weights_are_those_of_the_loader() -> None:
    s = scene("mini", torch.float16)
    file, keys = lora_file(s.base.model), keys_of(s.base.model)
    model = with_lora(s.base.model, file, 1.0)
    seen = weights_of_run(model, weak(s.positive, 0.5), s.negative, keys)
    expected = loaded_weights(with_lora(s.base.model, file, 0.5), keys)
    assert all(weight.dtype == torch.float16 for weight in expected.values())
    assert_same_weights(of_branch(seen, AUXILIARY), expected)


@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize(("sampler", "strength"), [("euler", 0.0), ("heun", 0.5), ("dpmpp_sde", 0.5)])
def test_a_forced_blend_is_the_stock_sampler_and_a_free_one_is_not(
    sampler: str, strength: float, share_guidance: bool
) -> None:
    s, model, keys = lora_scene()
    cond = weak(s.positive, strength)
    stock = ksample(model, s.positive, s.negative, sampler)
    forced = dci(model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(ksample(forced, cond, s.negative, sampler), stock)
    ours = dci(model, share_guidance=share_guidance)
    same, weaker = (ksample(ours, given, s.negative, sampler) for given in (s.positive, cond))
    assert relative_difference(weaker, same) > 1e-4
    seen = weights_of_run(model, cond, s.negative, keys, sampler=sampler, share_guidance=share_guidance)
    whole = loaded_weights(model, keys)
    assert_same_weights(of_branch(seen, OTHERS), whole)
    assert_other_weights(of_branch(seen, AUXILIARY), whole)


def test_at_its_whole_strength_no_hook_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    s, model, _ = lora_scene()
    expected = ksample(dci(model), s.positive, s.negative)
    monkeypatch.setattr(ModelPatcher, "patch_hooks", _never)
    assert torch.equal(ksample(dci(model), weak(s.positive, 1.0), s.negative), expected)


def _never(self: Any, hooks: Any) -> None:
    assert hooks is None


def test_two_conditionings_have_strengths_of_their_own_and_equal_ones_run_together() -> None:
    s, model, keys = lora_scene()
    other = positive(s.clip, "a V* cat in the snow, at dawn")
    expected = [loaded_weights(with_lora(s.base.model, lora_file(s.base.model), 0.8 * x), keys) for x in (0.25, 0.5)]
    seen = weights_of_run(model, weak(s.positive, 0.25) + weak(other, 0.5), s.negative, keys)
    first, second = of_branch(seen, AUXILIARY)[::2], of_branch(seen, AUXILIARY)[1::2]
    assert len(first) == len(second) == 2
    assert_same_weights(first, expected[0])
    assert_same_weights(second, expected[1])
    together = weights_of_run(model, weak(s.positive, 0.5) + weak(other, 0.5), s.negative, keys)
    assert len(of_branch(together, AUXILIARY)) == 2
    assert_same_weights(of_branch(together, AUXILIARY), expected[1])


def test_a_conditioning_without_an_auxiliary_text_keeps_its_weights() -> None:
    s, model, keys = lora_scene()
    seen = weights_of_run(model, weak(s.positive, 0.5) + encode(s.clip, "a castle"), s.negative, keys)
    whole = loaded_weights(model, keys)
    whose = [torch.equal(weights[keys[0]], whole[keys[0]]) for weights in of_branch(seen, AUXILIARY)]
    assert sorted(whose) == [False, False, True, True]


def hook_delta(s: Scene, cond: Any) -> torch.Tensor:
    """Return the change of ``HOOKED`` by the hook of ``lora_hooked``."""
    return cond[0][1]["hooks"].hooks[0].weights[HOOKED][1][0]


@pytest.mark.parametrize("with_patches", [False, True])
@pytest.mark.parametrize("share_guidance", [True, False])
def test_hooks_of_the_positive_are_weakened_along_their_keyframes(share_guidance: bool, with_patches: bool) -> None:
    s = scene()
    file = lora_file(s.base.model)
    model = with_lora(s.base.model, file, 0.8) if with_patches else s.base.model
    cond = lora_hooked(s.positive)
    delta = hook_delta(s, cond)
    seen = weights_of_run(
        model,
        weak(cond, 0.5),
        s.negative,
        [HOOKED],
        share_guidance=share_guidance,
        active_fraction=0.9,
        steps=5,
    )
    weaker = loaded_weights(with_lora(s.base.model, file, 0.4) if with_patches else s.base.model, [HOOKED])[HOOKED]
    whole = loaded_weights(model, [HOOKED])[HOOKED]

    def strengths(branch: str, base: torch.Tensor) -> list[float]:
        return [round(_share(weights[HOOKED] - base, delta), 4) for weights in of_branch(seen, branch)]

    auxiliary = [x for x in strengths(AUXILIARY, weaker) if x > 0.1]
    concept = [x for x in strengths(OTHERS, whole) if x > 0.1]
    assert concept == [0.5, 1.0, 1.0, 1.0, 1.0]
    assert auxiliary == [0.25, 0.5, 0.5, 0.5]
    stock = ksample(model, cond, s.negative)
    forced = dci(model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(ksample(forced, weak(cond, 0.5), s.negative), stock)


def _share(change: torch.Tensor, of: torch.Tensor) -> float:
    """Return which multiple of a change it is; it must be one."""
    share = ((change * of).sum() / (of * of).sum()).item()
    assert torch.allclose(change, share * of, atol=1e-5)
    return share


def test_a_model_as_lora_is_weakened() -> None:
    s = scene("mini")
    other = scene("mini").base.model.model.state_dict()
    keys = keys_of(s.base.model)
    tuned = {
        key: other[key] + torch.randn(other[key].shape, generator=torch.Generator().manual_seed(6)) for key in keys
    }
    hooks = comfy.hooks.create_hook_model_as_lora(tuned, None, 0.8, 0.0)
    cond = hook_nodes.ConditioningSetProperties().set_properties(s.positive, 1.0, "default", hooks=hooks)[0]
    seen = weights_of_run(s.base.model, weak(cond, 0.25), s.negative, keys)
    base = loaded_weights(s.base.model, keys)
    expected = {key: base[key] + 0.2 * (tuned[key] - base[key]) for key in keys}
    assert_same_weights(of_branch(seen, AUXILIARY), expected, 1e-6)


def test_copies_that_the_host_makes_for_an_area_of_the_negative_are_weakened_too() -> None:
    s, model, keys = lora_scene()
    negative = host_nodes.ConditioningSetAreaPercentage().append(encode(s.clip, "blurry"), 0.5, 1.0, 0.5, 0.0, 1.0)[0]
    seen = weights_of_run(model, weak(s.positive, 0.5), negative + s.negative, keys)
    half = loaded_weights(with_lora(s.base.model, lora_file(s.base.model), 0.4), keys)
    assert len(of_branch(seen, AUXILIARY)) == 4  # the whole and the area's copy, in two active steps
    assert_same_weights(of_branch(seen, AUXILIARY), half)
    stock = ksample(model, s.positive, negative + s.negative)
    forced = dci(model, forced_auxiliary_weight=0.0)
    assert torch.equal(ksample(forced, weak(s.positive, 0.5), negative + s.negative), stock)


def test_weights_are_made_once_and_kept_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    s, model, keys = lora_scene()
    exchange, made = ModelPatcher.patch_hook_weight_to_device, []

    def counted(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(kwargs["key"])
        exchange(self, *args, **kwargs)

    monkeypatch.setattr(ModelPatcher, "patch_hook_weight_to_device", counted)
    ksample(dci(model, active_fraction=0.9), weak(s.positive, 0.5), s.negative, steps=6)
    assert sorted(made) == sorted(keys)


def test_a_sweep_keeps_its_auxiliary_passes() -> None:
    s, model, keys = lora_scene()
    cond, memory = weak(s.positive, 0.5), AuxiliaryMemory()
    for strength in (0.0, 2.0):
        settings = DCISettings(injection_strength=strength, active_fraction=0.5, share_guidance=False)
        alone = ksample(apply_dci(model, settings)[0], cond, s.negative)
        watched, seen = watching_weights(apply_dci(model, settings, memory)[0], keys)
        assert torch.equal(ksample(watched, cond, s.negative), alone)
        assert any(whose == AUXILIARY for whose, _ in seen) == (strength == 0.0)
        assert_same_weights(of_branch(seen, OTHERS), loaded_weights(model, keys))


@pytest.mark.parametrize("frames", [[(1.0, 0.0), (0.2, 0.1)], [(1.0 - 0.2 * i, 0.1 * i) for i in range(5)]])
def test_a_sweep_follows_the_keyframes_of_hooks(frames: list[tuple[float, float]]) -> None:
    """A pass that is not run again must leave the hooks where one would."""
    s, _, keys = lora_scene()
    hooks = comfy.hooks.create_hook_lora(lora_file(s.base.model), 1.0, 0.0)
    keyframes = comfy.hooks.HookKeyframeGroup()
    for strength, start in frames:
        keyframes.add(comfy.hooks.HookKeyframe(strength, start, 1))
    hooks.set_keyframes_on_hooks(keyframes)
    (hooked,) = hook_nodes.ConditioningSetProperties().set_properties(s.positive, 1.0, "default", hooks=hooks)
    cond, memory = weak(hooked, 0.5), AuxiliaryMemory()
    for injection in (0.0, 2.0):
        settings = DCISettings(injection_strength=injection, active_fraction=0.6, auxiliary_steps=AuxiliarySteps.SINGLE)
        alone = ksample(apply_dci(s.base.model, settings)[0], cond, s.negative, steps=8)
        assert torch.equal(ksample(apply_dci(s.base.model, settings, memory)[0], cond, s.negative, steps=8), alone)


def test_lora_that_the_host_adds_late_are_weakened(monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory the host leaves weights where they are and adds LoRA as each layer reads its own."""
    s, model, keys = lora_scene()
    cond = weak(s.positive, 0.5)
    merged = ksample(dci(model), cond, s.negative)
    stock = ksample(model, s.positive, s.negative)
    ModelPatcher.detach(model)
    load, late = ModelPatcher.load, []

    def sparing(self: Any, device_to: Any = None, **kwargs: Any) -> Any:
        result = load(self, device_to, **{**kwargs, "lowvram_model_memory": 1, "full_load": False})
        functions = [f for m in self.model.modules() for f in getattr(m, "weight_function", [])]
        late.append(sum(isinstance(function, LowVramPatch) for function in functions))
        return result

    fresh = with_lora(s.base.model, lora_file(s.base.model), 0.8)
    with monkeypatch.context() as patches:
        patches.setattr(ModelPatcher, "load", sparing)
        watched, seen = watching_weights(dci(fresh), keys)
        assert relative_difference(ksample(watched, cond, s.negative), merged) < 1e-4
        assert late and late[0] == len(keys)
        base = loaded_weights(fresh, keys)
        assert_same_weights(of_branch(seen, OTHERS), base)
        assert_other_weights(of_branch(seen, AUXILIARY), base)
        comfy.model_management.unload_all_models()
    assert torch.equal(ksample(model, s.positive, s.negative), stock)
