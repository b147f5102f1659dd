"""Whatever happens in a run, the model given in is left exactly as it was, and so is the next plain run."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from conditions import lora_hooked, tiny_controlnet, with_control
from patcher_state import assert_unchanged, patcher_state
from scenes import dci, encode, ksample, scene
from torch import Tensor


class Stop(Exception):
    """Raised by a test in the middle of a run."""


def fail_at(model: Any, call: int, error: type[BaseException], kind: str = WrappersMP.PREDICT_NOISE) -> Any:
    """Return a clone that raises at a model call, beneath the two-branch code."""
    clone, calls = model.clone(), []

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise error()
        return executor(*args, **kwargs)

    clone.add_wrapper_with_key(kind, "test", wrapper)
    return clone


def test_applying_and_sampling_leave_the_model_as_it_was() -> None:
    s = scene()
    stock = ksample(s.model, s.positive, s.negative)
    before = patcher_state(s.model)
    patched, masks = apply_dci(s.model, DCISettings(injection_strength=1.0, active_fraction=0.5))
    ksample(patched, s.positive, s.negative)
    assert masks.latest.calls
    assert_unchanged(s.model, before)
    assert torch.equal(ksample(s.model, s.positive, s.negative), stock)


@pytest.mark.parametrize("kind", [WrappersMP.PREDICT_NOISE, WrappersMP.APPLY_MODEL])
@pytest.mark.parametrize("error", [comfy.model_management.InterruptProcessingException, Stop])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_cancelling_or_failing_leaves_the_model_as_it_was(kind: str, error: type[BaseException], call: int) -> None:
    s = scene()
    stock = ksample(s.model, s.positive, s.negative)
    before = patcher_state(s.model)
    patched = dci(s.model)
    ours = ksample(patched, s.positive, s.negative)
    with pytest.raises(error):
        ksample(fail_at(patched, call, error, kind), s.positive, s.negative)
    assert torch.equal(ksample(s.model, s.positive, s.negative), stock)
    assert torch.equal(ksample(patched, s.positive, s.negative), ours)
    assert_unchanged(s.model, before)


@pytest.mark.parametrize(
    "layer", [1, 16, 17, 40]
)  # the first pass records, the second blends, the third is recorded again
def test_failing_inside_a_layer_leaves_the_model_as_it_was(layer: int) -> None:
    s, reached = scene(), []
    stock = ksample(s.model, s.positive, s.negative)
    before = patcher_state(s.model)
    patched = dci(s.model)
    ours = ksample(patched, s.positive, s.negative)

    def fail(out: Tensor, extra: Any) -> Tensor:
        reached.append(1)
        if len(reached) == layer:
            raise Stop
        return out

    failing = patched.clone()
    failing.set_model_attn2_output_patch(fail)
    with pytest.raises(Stop):
        ksample(failing, s.positive, s.negative)
    assert torch.equal(ksample(s.model, s.positive, s.negative), stock)
    assert torch.equal(ksample(patched, s.positive, s.negative), ours)
    assert_unchanged(s.model, before)


@pytest.mark.sweep
@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_cancelling_with_controls_and_hooks_leaves_the_next_plain_run_as_it_was(
    call: int, share_guidance: bool
) -> None:
    s = scene()
    stock = ksample(s.model, s.positive, s.negative)
    with torch.inference_mode():
        pos, neg = with_control(tiny_controlnet(s.model), False, images=1)
    pos = lora_hooked(pos)
    before = patcher_state(s.model)
    patched = dci(s.model, share_guidance=share_guidance)
    ours = ksample(patched, pos, neg)
    error = comfy.model_management.InterruptProcessingException
    with pytest.raises(error):
        ksample(fail_at(patched, call, error, WrappersMP.APPLY_MODEL), pos, neg)
    assert_unchanged(s.model, before)
    assert torch.equal(ksample(s.model, s.positive, s.negative), stock)
    assert torch.equal(ksample(patched, pos, neg), ours)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    s = scene()
    patched = dci(s.model)
    first = ksample(patched, s.positive, s.negative)
    assert torch.equal(ksample(patched, s.positive, s.negative), first)
    assert not torch.equal(ksample(patched, s.positive, s.negative, seed=4), first)


def test_each_run_publishes_masks_of_its_own_when_it_has_finished() -> None:
    s = scene()
    patched, masks = apply_dci(s.model, DCISettings(active_fraction=0.5))
    ksample(patched, s.positive, s.negative, batch=2)
    assert masks.latest.batch == 2 and masks.latest.sizes[0] == (8, 8) and len(masks.latest.calls) == 2
    assert all(grid.device.type == "cpu" for call in masks.latest.calls for grid in call.heads.values())
    first, grids = masks.latest, [grid.clone() for call in masks.latest.calls for grid in call.heads.values()]
    ksample(patched, s.positive, s.negative, batch=1)
    assert masks.latest.batch == 1 and len(masks.latest.calls) == 2
    ksample(patched, encode(s.clip, "a castle"), s.negative)
    assert masks.latest.calls == ()
    stopped = fail_at(patched, 2, comfy.model_management.InterruptProcessingException)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        ksample(stopped, s.positive, s.negative)
    assert [(run.stamp.images, run.stamp.height_px, len(run.calls)) for run in masks.runs] == [
        (2, 64, 2),
        (1, 64, 2),
        (1, 64, 0),
    ]
    assert masks.runs[0] is first
    now = [grid for call in first.calls for grid in call.heads.values()]
    assert all(map(torch.equal, now, grids)) and len(now) == len(grids)


def test_masks_hold_the_weights_that_were_used() -> None:
    s = scene()
    forced, masks = apply_dci(s.model, DCISettings(active_fraction=0.5, forced_auxiliary_weight=0.25))
    ksample(forced, s.positive, s.negative)
    assert all((grid == 0.25).all() for call in masks.latest.calls for grid in call.maps.values())
    computed, masks = apply_dci(s.model, DCISettings(active_fraction=0.5))
    ksample(computed, s.positive, s.negative)
    largest = masks.latest.calls[0].maps[8, 8]
    assert largest.shape == (1, 8, 8) and 0 < largest.min() < largest.max() < 0.5  # λ = 0: σ(-s_c)
    timesteps = [call.timestep for call in masks.latest.calls]
    assert timesteps[0] == 999 and timesteps == sorted(timesteps, reverse=True)


def test_applying_twice_is_refused() -> None:
    s = scene()
    with pytest.raises(UserInputError, match="already carries Apply DCI"):
        apply_dci(dci(s.model), DCISettings())
