"""A CLIP at a share of its LoRA's strength encodes as its loader's would, and the given one as before."""

from __future__ import annotations

from typing import Any

import comfy.hooks
import comfy_extras.nodes_hooks as hook_nodes
import pytest
import torch
from comfyui_dci.nodes.host.lora_strength import clip_at_strength, lora_keys, patches_at_strength
from scenes import encode, scene
from text_loras import text_lora, with_text_lora

TEXT = "a dog in times square"


def encoded(clip: Any) -> list[torch.Tensor]:
    return [text for text, _ in encode(clip, TEXT)]


def same(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_weaker_clip_encodes_as_the_loaders_and_the_given_one_as_before(family: str, strength: float) -> None:
    base = scene(family).base.clip
    clip = with_text_lora(base, 0.8)
    assert clip.patcher.patches
    before, patches = encoded(clip), {key: list(each) for key, each in clip.patcher.patches.items()}
    weaker = clip_at_strength(clip, strength)
    expected = encoded(with_text_lora(base, 0.8 * strength) if strength else base)
    assert same(encoded(weaker), expected) and not same(expected, before)
    assert same(encoded(clip), before) and clip.patcher.patches == patches
    assert weaker.cond_stage_model is clip.cond_stage_model and weaker.patcher.model is clip.patcher.model
    assert same(encoded(weaker), expected)


def test_the_clip_itself_is_returned_where_nothing_changes() -> None:
    base = scene().base.clip
    clip = with_text_lora(base, 0.8)
    assert clip_at_strength(clip, 1.0) is clip
    assert clip_at_strength(base, 0.5) is base


@pytest.mark.parametrize("schedule", [True, False])
def test_hooks_of_a_clip_are_weakened_along_their_schedule(schedule: bool) -> None:
    base = scene().base.clip

    def hooked(strength: float) -> Any:
        hooks = comfy.hooks.create_hook_lora(text_lora(base), 0.0, strength)
        keyframes = comfy.hooks.HookKeyframeGroup()
        keyframes.add(comfy.hooks.HookKeyframe(0.5, 0.0, 0))
        keyframes.add(comfy.hooks.HookKeyframe(1.0, 0.3, 0))
        hooks.set_keyframes_on_hooks(keyframes)
        with torch.inference_mode():
            return hook_nodes.SetClipHooks().apply_hooks(base, schedule, True, hooks)[0]

    clip = hooked(0.8)
    before, forced = encoded(clip), clip.patcher.forced_hooks
    weaker = clip_at_strength(clip, 0.5)
    expected = encoded(hooked(0.4))
    assert len(before) == len(expected) == (2 if schedule else 1)
    assert same(encoded(weaker), expected) and not same(expected, before)
    assert same(encoded(clip), before) and clip.patcher.forced_hooks is forced
    assert not set(weaker.patcher.hook_patches) <= set(clip.patcher.hook_patches)


def test_patches_of_every_sort_at_a_share() -> None:
    values, other = torch.full((2, 2), 3.0), [(torch.ones(2, 2), None)]
    patches = [
        (0.8, ("diff", (values,)), 1.0, None, None),
        (0.25, other, 0.75, None, None),
        (1.0, ("set", (values,)), 1.0, None, None),
    ]
    added, mixed, replaced = patches_at_strength(patches, 0.5)
    assert added == (0.4, ("diff", (values,)), 1.0, None, None)
    assert mixed is patches[1]  # a merged model is no LoRA
    assert replaced == (0.5, ("diff", (values,)), 0.5, None, None)
    assert patches_at_strength(patches, 1.0) == patches and patches_at_strength(patches, 0.0) == [mixed]
    assert lora_keys({"merged": [mixed], "both": patches}) == {"both"}
