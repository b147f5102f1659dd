"""Give patches of weights (LoRA of every kind) a share of their strength, as their loader would have at that strength."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import comfy.hooks

Patch = tuple[Any, ...]
"""As the host keeps it: strength, what it holds, strength of the weight it lies on, offset, function."""
Patches = dict[str, list[Patch]]


def patches_at_strength(patches: Iterable[Patch], strength: float) -> list[Patch]:
    """Return the patches of one weight with a share of their strength.

    Merged models, which the host keeps as patches too, are no LoRA and stay; a patch that replaces the weight is mixed in by
    the share.

    Args:
        patches: of the host, in their order.
        strength: 0 … 1; 0 leaves no LoRA, 1 all as it is.
    """
    if strength == 1:
        return list(patches)
    return [_at_strength(patch, strength) for patch in patches if strength or is_merge(patch)]


def lora_keys(patches: Patches) -> set[str]:
    """Return which weights any LoRA changes, other patches than merged models."""
    return {key for key, each in patches.items() if not all(map(is_merge, each))}


def is_merge(patch: Patch) -> bool:
    """Tell whether a patch mixes a model in, or takes a share of the weight it lies on, as the host's merging nodes do."""
    _, held, of_weight, _, _ = patch
    return of_weight != 1 or isinstance(held, list)


def _at_strength(patch: Patch, strength: float) -> Patch:
    if is_merge(patch):
        return patch
    own, held, _, offset, function = patch
    if isinstance(held, tuple) and len(held) == 2 and held[0] == "set":  # the host takes it whole at any strength
        return strength, ("diff", held[1]), 1 - strength, offset, None
    return own * strength, held, 1, offset, function


def hooks_at_strength(patcher: Any, hooks: Any, strength: float) -> Any:
    """Return a group of hooks with a share of its weight hooks' strength, for the same patcher.

    The copies have keyframes of their own, since the host tells a change of keyframe only once.

    Args:
        patcher: the host's; the patches of the new hooks are put among its ``hook_patches``.
        hooks: a HookGroup whose hooks the patcher knows.
        strength: 0 … 1.
    """
    group = comfy.hooks.HookGroup()
    for hook in hooks.hooks:
        own = hook.clone()
        own.hook_keyframe = hook.hook_keyframe.clone()
        if isinstance(hook, comfy.hooks.WeightHook):
            own.hook_ref = comfy.hooks.Hook().hook_ref
            patcher.hook_patches[own.hook_ref] = _all_at_strength(patcher.hook_patches.get(hook.hook_ref, {}), strength)
        group.add(own)
    return group


def clip_at_strength(clip: Any, strength: float) -> Any:
    """Return a CLIP whose patches and hooks have a share of their strength.

    The network is shared with the given CLIP, as by every clone of the host's: it is patched anew when one of them encodes
    after the other, and the given CLIP encodes the same bytes before and after.

    Args:
        clip: a host CLIP; it is not changed.
        strength: 0 … 1; 1 returns the CLIP itself, and so does any strength where it carries no LoRA.
    """
    hooks = clip.patcher.forced_hooks
    if strength == 1 or not (lora_keys(clip.patcher.patches) or has_weight_hooks(hooks)):
        return clip
    clone = clip.clone()
    patcher = clone.patcher
    patcher.patches = _all_at_strength(patcher.patches, strength)
    patcher.patches_uuid = uuid.uuid4()
    if hooks is not None:
        patcher.forced_hooks = hooks_at_strength(patcher, hooks, strength)
    return clone


def has_weight_hooks(hooks: Any) -> bool:
    """Tell whether a HookGroup, or None, changes weights."""
    return hooks is not None and bool(hooks.get_type(comfy.hooks.EnumHookType.Weight))


def _all_at_strength(patches: Patches, strength: float) -> Patches:
    scaled = {key: patches_at_strength(each, strength) for key, each in patches.items()}
    return {key: each for key, each in scaled.items() if each}
