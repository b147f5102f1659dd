"""Whatever happens in a run with weaker LoRA in the auxiliary branch, the model and the guider are left as they were."""

from __future__ import annotations

from typing import Any

import comfy.hooks
import comfy.model_management
import comfy_extras.nodes_custom_sampler as custom
import nodes as host_nodes
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.sampling.auxiliary_weights import _without_dynamic_vram
from conditions import lora_hooked
from patcher_state import assert_unchanged, patcher_state
from sampled import guider_of, sample_guider
from scenes import dci, encode, ksample, scene
from weights_seen import (
    AUXILIARY,
    assert_same_weights,
    loaded_weights,
    lora_file,
    lora_scene,
    of_branch,
    watching_weights,
    weak,
    with_lora,
)

TWO_MODELS = ["two models"] if hasattr(custom, "DualModelGuider") else []


@pytest.mark.parametrize("kind", ["cfg", "dual nested", "perp-neg", "basic", *TWO_MODELS])
def test_guiders_are_given_back_as_they_were(kind: str) -> None:
    s, model, keys = lora_scene("sd1")
    cond = weak(s.positive, 0.5)
    plain = sample_guider(guider_of(kind, model, s.positive, s.negative), model)
    forced = dci(model, forced_auxiliary_weight=0.0)
    guider = guider_of(kind, forced, cond, s.negative)
    assert torch.equal(sample_guider(guider, model), plain)
    assert guider.model_patcher is forced and guider.model_options is forced.model_options
    watched, seen = watching_weights(dci(model), keys)
    sample_guider(guider_of(kind, watched, cond, s.negative), model)
    assert_same_weights(
        of_branch(seen, AUXILIARY), loaded_weights(with_lora(s.base.model, lora_file(s.base.model), 0.4), keys)
    )


HOOK_STATE = ("hook_patches", "hook_patches_backup", "hook_backup", "cached_hook_patches", "current_hooks", "hook_mode")


def hook_state(model: Any) -> dict[str, Any]:
    """Return what a patcher holds of hooks."""
    held = {name: getattr(model, name) for name in HOOK_STATE}
    return {name: dict(each) if isinstance(each, dict) else each for name, each in held.items()}


@pytest.mark.sweep
@pytest.mark.parametrize("error", [None, comfy.model_management.InterruptProcessingException])
@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("hooked", [False, True])
def test_the_model_is_left_as_it_was(hooked: bool, call: int, error: type[BaseException] | None) -> None:
    s = scene()
    model = with_lora(s.model, lora_file(s.base.model), 0.8)
    cond = weak(lora_hooked(s.positive) if hooked else s.positive, 0.5)
    stock = ksample(model, s.positive, s.negative)
    patched, calls = dci(model), []
    before, held, mark = patcher_state(patched), hook_state(patched), patched.patches_uuid

    def fail(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call and error is not None:
            raise error
        return executor(*args, **kwargs)

    failing = patched.clone()
    failing.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", fail)
    if error is None:
        ksample(patched, cond, s.negative, steps=call)
    else:
        with pytest.raises(error):
            ksample(failing, cond, s.negative)
        assert hook_state(failing)["hook_backup"] == {} and failing.hook_patches == patched.hook_patches
    assert hook_state(patched) == held
    assert hooked or patched.patches_uuid == mark  # for hooks on conditions the host itself draws a new one
    assert_unchanged(patched, before)
    assert torch.equal(ksample(model, s.positive, s.negative), stock)


def test_being_stopped_while_weights_are_exchanged_leaves_them_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    s, model, _ = lora_scene()
    stock = ksample(model, s.positive, s.negative)
    patched = dci(model)
    before, held = patcher_state(patched), hook_state(patched)
    exchange, exchanged = ModelPatcher.patch_hook_weight_to_device, []

    def stopped(self: Any, *args: Any, **kwargs: Any) -> None:
        exchange(self, *args, **kwargs)
        exchanged.append(1)
        if len(exchanged) == 3:
            raise comfy.model_management.InterruptProcessingException

    with monkeypatch.context() as patches:
        patches.setattr(ModelPatcher, "patch_hook_weight_to_device", stopped)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            ksample(patched, weak(s.positive, 0.5), s.negative)
    assert hook_state(patched) == held
    assert_unchanged(patched, before)
    assert torch.equal(ksample(model, s.positive, s.negative), stock)


def test_a_text_that_is_refused_leaves_the_model_as_it_was() -> None:
    s, model, _ = lora_scene()
    patched = dci(model)
    before, held = patcher_state(patched), hook_state(patched)
    changed = host_nodes.ConditioningAverage().addWeighted(weak(s.positive, 0.5), encode(s.clip, "a painting"), 0.7)[0]
    with pytest.raises(UserInputError, match="changed after AuxPromptBuilder"):
        ksample(patched, changed, s.negative)
    assert hook_state(patched) == held
    assert_unchanged(patched, before)


class DynamicPatcher(ModelPatcher):
    """A patcher as the host's with DynamicVRAM, which cannot take hooks but knows one that can."""

    dynamic = True

    def is_dynamic(self) -> bool:
        return self.dynamic

    def get_non_dynamic_delegate(self) -> Any:
        delegate = self.clone()
        delegate.dynamic = False
        return delegate


def test_a_model_with_dynamic_vram_is_replaced_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    s, model, _ = lora_scene()
    monkeypatch.setattr(
        comfy.model_management, "load_models_gpu", _load_plainly(comfy.model_management.load_models_gpu)
    )
    dynamic = dci(model)
    dynamic.__class__ = DynamicPatcher
    guider = guider_of("cfg", dynamic, weak(s.positive, 0.5), s.negative)
    ours = sample_guider(guider, model)
    assert guider.model_patcher is dynamic
    assert torch.equal(ours, sample_guider(guider_of("cfg", dci(model), weak(s.positive, 0.5), s.negative), model))
    monkeypatch.setattr(DynamicPatcher, "get_non_dynamic_delegate", _no_delegate)
    with pytest.raises(UserInputError, match="set auxiliary_lora_strength to 1"):
        sample_guider(guider_of("cfg", dynamic, weak(s.positive, 0.5), s.negative), model)
    assert guider.model_patcher is dynamic


def test_clones_of_a_model_with_dynamic_vram_share_its_second_copy() -> None:
    class Patcher:
        """As the host's: clones know their parent, and none knows the copy that another has made."""

        def __init__(self, parent: Patcher | None) -> None:
            self.parent = parent
            self.non_dynamic_delegate_model: Any = None

        def get_non_dynamic_delegate(self) -> Any:
            self.non_dynamic_delegate_model = self.non_dynamic_delegate_model or object()
            return self.non_dynamic_delegate_model

    origin = Patcher(None)
    first, second = Patcher(Patcher(origin)), Patcher(origin)
    assert _without_dynamic_vram(first) is _without_dynamic_vram(second) is origin.non_dynamic_delegate_model


def _load_plainly(load: Any) -> Any:
    def loading(models: list[Any], *args: Any, **kwargs: Any) -> Any:
        assert not any(model.is_dynamic() for model in models)
        return load(models, *args, **kwargs)

    return loading


def _no_delegate(self: Any) -> Any:
    raise RuntimeError("Cannot create non-dynamic delegate: cached_patcher_init is not initialized.")
