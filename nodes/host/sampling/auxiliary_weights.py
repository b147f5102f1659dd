"""Run the auxiliary branch with LoRA at a share of its strength, by the host's own hooks on its conditions.

A LoRA that has overfitted acts on every prompt, the auxiliary one too. The auxiliary twins therefore carry a hook that puts
W(s) in place of W(1) for their forward alone: the weights with all LoRA of the model and all weight hooks of the
condition at s times their strength; merged models stay merged. The concept branch, its negative, and with exact guidance the auxiliary branch's
negative, and what is combined with the positive without an auxiliary text, keep W(1). The host exchanges the weights and puts
them back, whatever happens in the run.

Models with DynamicVRAM cannot have hooks. As for any condition with hooks the host then samples with a second copy of the
model, without DynamicVRAM, into which it merges LoRA; that rounds otherwise, so the plain image may differ in its last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.hooks
import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import torch
from comfy.weight_adapter import WeightAdapterBase
from torch import Tensor

from ....dci_core.errors import UserInputError
from ..lora_strength import has_weight_hooks, hooks_at_strength, lora_keys, patches_at_strength
from ..quantised import is_plain, quantisation_of

BYPASS = "bypass_lora"
"""Under this name the host keeps LoRA that change what layers return in place of their weights."""


@dataclass(frozen=True)
class AuxiliaryWeights:
    """What is exchanged for the auxiliary branch while a guider samples.

    Args:
        strengths: of LoRA in the branch, those below 1, each once; none where both branches have the same weights.
        exchanged: how many weights are.
        has_bypass: whether a LoRA in bypass mode acts, which keeps its strength.
        is_text_weaker: whether LoRA of the text encoder had those strengths when the auxiliary prompt was encoded.
        undo: gives the guider its model patcher back, and that what it held.
    """

    strengths: tuple[float, ...] = ()
    exchanged: int = 0
    has_bypass: bool = False
    is_text_weaker: bool = False
    undo: Callable[[], None] = lambda: None

    def text(self) -> str:
        """Return what the user should be told; "" where both branches have the same weights."""
        return f"auxiliary weights: {'; '.join(self._told())}" if self.strengths else ""

    def _told(self) -> Iterator[str]:
        share = " and ".join(f"{strength:g}" for strength in self.strengths)
        if self.exchanged:
            yield f"LoRA at {share} of its strength, {self.exchanged} weights exchanged before each auxiliary pass and back after it"
        elif self.is_text_weaker:
            yield f"LoRA at {share} of its strength in the text encoder alone, for the model carries none"
        elif not self.has_bypass:
            yield (
                f"nothing to weaken to {share}, for neither the model nor a hook on the positive carries a LoRA. "
                "A fine-tuned checkpoint is one whole: load the checkpoint it was made from, and put the fine-tune on the "
                "positive by Create Hook Model as LoRA"
            )
        if self.has_bypass:
            yield "a LoRA in bypass mode keeps its strength, use Load LoRA for it"


def weaken(
    guider: Any, twins: list[dict[str, Any]], strengths: Sequence[float], is_text_weaker: bool = False
) -> AuxiliaryWeights:
    """Give auxiliary twins the hooks that weaken LoRA in their forwards.

    It is called when the guider has prepared its conditions and before it loads the model.

    Args:
        guider: the host's, at work.
        twins: its auxiliary conditions; those to weaken are replaced in the list.
        strengths: of LoRA in the forward of each, 0 … 1; 1 leaves the twin as it is.
        is_text_weaker: whether the text encoder had them.

    Raises:
        UserInputError: the weights are of a kind that the host cannot exchange.
    """
    below = tuple(sorted({strength for strength in strengths if strength < 1}))
    patcher = guider.model_patcher
    has_bypass = bool(below) and BYPASS in patcher.injections
    weak = [
        (number, strength)
        for number, (twin, strength) in enumerate(zip(twins, strengths, strict=True))
        if strength < 1 and (lora_keys(patcher.patches) or has_weight_hooks(twin.get("hooks")))
    ]
    if not weak:
        return AuxiliaryWeights(below, has_bypass=has_bypass, is_text_weaker=is_text_weaker)
    undo = _made_ready(guider)
    try:
        groups = _Groups(guider.model_patcher)
        for number, strength in weak:
            twins[number] = {**twins[number], "hooks": groups.weakened(twins[number].get("hooks"), strength)}
        _check_exchangeable(guider.model_patcher, groups.keys)
    except BaseException:
        undo()
        raise
    return AuxiliaryWeights(below, len(groups.keys), has_bypass, is_text_weaker, undo)


class _Groups:
    """The twins' groups of hooks, one for all twins that need the same: the host runs those together.

    Args:
        patcher: the host's, that knows the hooks of the conditions.

    ``keys`` are those of the weights they exchange.
    """

    def __init__(self, patcher: Any) -> None:
        self.keys: set[str] = set()
        self._patcher = patcher
        self._made: dict[tuple[int, float], tuple[Any, Any]] = {}

    def weakened(self, hooks: Any, strength: float) -> Any:
        """Return the group in place of a condition's own, which may be None."""
        key = id(hooks), strength
        if key not in self._made:
            self._made[key] = hooks, self._make(hooks, strength)
        return self._made[key][1]

    def _make(self, hooks: Any, strength: float) -> Any:
        known = self._patcher.hook_patches
        group = comfy.hooks.HookGroup()
        keys = lora_keys(self._patcher.patches)
        if keys:
            own = comfy.hooks.WeightHook()
            adapter = WeakenedWeight(strength)
            known[own.hook_ref] = {key: [(1.0, adapter, 1.0, None, None)] for key in keys}
            group.add(own)
        if hooks is not None:
            self.keys.update(*(known.get(hook.hook_ref, {}) for hook in hooks.hooks))
            for hook in hooks_at_strength(self._patcher, hooks, strength).hooks:
                group.add(hook)
        self.keys.update(keys)
        return group


class WeakenedWeight(WeightAdapterBase):
    """A patch of a hook: makes W(s), the weight with the model's own patches at a share of their strength.

    Where the host has merged them, that is what the model would hold had they been loaded at that strength. Where it adds
    them when a layer reads its weight (low VRAM), W(s) − W(1) goes under them: exact for all that add to a weight, near
    for what turns or rescales it (OFT, BOFT, DoRA); what replaces it stays whole.

    Args:
        strength: s, 0 … 1.
    """

    name = "dci_auxiliary"

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.loaded_keys: set[str] = set()
        self.weights: list[Tensor] = []

    def calculate_weight(self, weight: Tensor, key: str, *args: Any) -> Tensor:
        """Return W(s) of a weight, as the host asks for it.

        Args:
            weight: what the model holds.
            key: its name.
            args: of the host, the last of them each weight as it was stored with its converter and the model's patches, by name.
        """
        (stored, convert), *patches = args[-1][key]
        base = convert(
            comfy.model_management.cast_to_device(stored, weight.device, weight.dtype, copy=True), inplace=True
        )
        is_merged = not torch.equal(base, weight)
        weakened = _patched(base, key, patches_at_strength(patches, self.strength))
        return weakened if is_merged else weight + (weakened - _patched(base, key, patches))


def _patched(base: Tensor, key: str, patches: list[Any]) -> Tensor:
    result: Tensor = comfy.lora.calculate_weight(patches, base.clone(), key)
    return result


def _made_ready(guider: Any) -> Callable[[], None]:
    """Let a guider's model patcher take hooks although it has begun to sample, and return what undoes that."""
    given = guider.model_patcher
    if given.is_dynamic():  # as the guider itself does for conditions with hooks
        guider.model_patcher = _without_dynamic_vram(given)
    patcher = guider.model_patcher
    hook_patches, hook_mode = patcher.hook_patches, patcher.hook_mode
    patcher.hook_patches = comfy.model_patcher.create_hook_patches_clone(hook_patches)
    if (
        comfy.samplers.get_total_hook_groups_in_conds(guider.conds) <= 1
    ):  # for which the guider has switched caching off
        patcher.hook_mode = comfy.hooks.EnumHookMode.MaxSpeed

    def undo() -> None:
        patcher.hook_patches, patcher.hook_mode = hook_patches, hook_mode
        guider.model_patcher = given

    return undo


def _without_dynamic_vram(patcher: Any) -> Any:
    """Return a patcher that can exchange weights; its second copy of the model is kept by the one that all clones come from."""
    origin = patcher
    while origin.parent is not None:
        origin = origin.parent
    patcher.non_dynamic_delegate_model = getattr(origin, "non_dynamic_delegate_model", None)
    try:
        delegate = patcher.get_non_dynamic_delegate()
    except RuntimeError as error:
        raise UserInputError(
            f"The auxiliary branch cannot have LoRA at a strength of its own with this model: {error} Load it by Load Checkpoint or "
            "Load Diffusion Model, set auxiliary_lora_strength to 1, or start ComfyUI with --disable-dynamic-vram."
        ) from error
    origin.non_dynamic_delegate_model = patcher.non_dynamic_delegate_model
    return delegate


def _check_exchangeable(patcher: Any, keys: set[str]) -> None:
    for key in sorted(keys):
        weight, setter, _ = comfy.model_patcher.get_key_weight(patcher.model, key)
        if setter is not None or not is_plain(weight):
            layer = patcher.model.get_submodule(key.rpartition(".")[0])
            kind = quantisation_of(layer, weight) or "mixed precision"
            raise UserInputError(
                f"The auxiliary branch cannot have LoRA at a strength of its own with this model: its weights are quantised ({kind}), and "
                "ComfyUI cannot exchange those while it samples. Set auxiliary_lora_strength to 1, or load an fp16, bf16 or fp32 "
                "file of the same checkpoint."
            )
