"""Every sampler with every scheduler, every sampling node, and very many runs, on a network of three attention layers."""

from __future__ import annotations

import gc
import os
from typing import Any

import comfy.samplers
import comfy_extras.nodes_advanced_samplers as advanced_samplers
import comfy_extras.nodes_custom_sampler as custom
import nodes as host_nodes
import psutil
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.run_masks import KEPT_RUNS
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from scenes import Scene, dci, ksample, relative_difference, scene

pytestmark = pytest.mark.sweep

SCHEDULERS = comfy.samplers.SCHEDULER_NAMES


def sample(s: Scene, model: Any, **options: Any) -> torch.Tensor:
    return ksample(model, s.positive, s.negative, **{"steps": 3, **options})


@pytest.mark.parametrize("sampler", comfy.samplers.SAMPLER_NAMES)
def test_every_sampler_and_scheduler_makes_the_stock_image_when_forced_and_another_with_dci(sampler: str) -> None:
    s = scene("mini")
    for number, scheduler in enumerate(SCHEDULERS):
        common = {"sampler": sampler, "scheduler": scheduler, "batch": 2, "cfg": 1.0 if scheduler == "karras" else 5.0}
        stock = sample(s, s.model, **common)
        forced = dci(s.model, forced_auxiliary_weight=0.0, share_guidance=number % 2 == 0)
        assert torch.equal(sample(s, forced, **common), stock), scheduler
        if sampler == "euler" or scheduler == SCHEDULERS[0]:
            assert relative_difference(sample(s, dci(s.model), **common), stock) > 1e-5, scheduler


def advanced(model: Any, latent: Any, start: int, end: int, add_noise: bool, leftover: bool) -> Any:
    s = scene("mini")
    on = {True: "enable", False: "disable"}
    with torch.inference_mode():
        return host_nodes.KSamplerAdvanced().sample(
            model, on[add_noise], 3, 8, 5.0, "euler", "normal", s.positive, s.negative, latent, start, end, on[leftover]
        )[0]


@pytest.mark.parametrize(("start", "end"), [(0, 8), (0, 5), (2, 8), (3, 6)])
@pytest.mark.parametrize("leftover", [True, False])
def test_ksampler_advanced(start: int, end: int, leftover: bool) -> None:
    s = scene("mini")
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    stock = advanced(s.model, latent, start, end, True, leftover)["samples"]
    forced = dci(s.model, forced_auxiliary_weight=0.0)
    assert torch.equal(advanced(forced, latent, start, end, True, leftover)["samples"], stock)
    assert relative_difference(advanced(dci(s.model), latent, start, end, True, leftover)["samples"], stock) > 1e-5


def test_a_run_in_two_stages_is_the_run_in_one_when_the_first_holds_the_active_part() -> None:
    s = scene("mini")
    empty = {"samples": torch.zeros(1, 4, 8, 8)}
    model = dci(s.model, active_fraction=0.3)
    whole = advanced(model, empty, 0, 8, True, False)
    first = advanced(model, empty, 0, 4, True, True)
    second = advanced(model, first, 4, 8, False, False)
    assert relative_difference(second["samples"], whole["samples"]) < 1e-5


def test_sampler_custom() -> None:
    s = scene("mini")
    sigmas = custom.KarrasScheduler.execute(5, 14.6, 0.03, 7.0).result[0]
    sampler = custom.SamplerDPMPP_2M_SDE.execute("midpoint", 1.0, 1.0, "cpu").result[0]
    latent = {"samples": torch.zeros(2, 4, 8, 8)}

    def run(model: Any) -> Any:
        with torch.inference_mode():
            return custom.SamplerCustom.execute(
                model, True, 3, 5.0, s.positive, s.negative, sampler, sigmas, latent
            ).result

    for ours, stock in zip(run(dci(s.model, forced_auxiliary_weight=0.0)), run(s.model)):
        assert torch.equal(ours["samples"], stock["samples"])
    assert relative_difference(run(dci(s.model))[0]["samples"], run(s.model)[0]["samples"]) > 1e-4


def test_the_images_of_a_batch_are_those_of_their_batch_indices() -> None:
    s = scene("mini")
    batch = sample(s, dci(s.model), batch=4)
    chosen = {"samples": torch.zeros(2, 4, 8, 8), "batch_index": [3, 1]}
    assert relative_difference(sample(s, dci(s.model), latent=chosen), batch[[3, 1]]) < 1e-4
    forced = dci(s.model, forced_auxiliary_weight=0.0)
    assert torch.equal(sample(s, forced, latent=chosen), sample(s, s.model, latent=chosen))


def test_a_sampler_that_changes_the_size_between_active_steps_is_refused_by_what_it_does() -> None:
    s = scene("mini")
    sampler = advanced_samplers.SamplerLCMUpscale().execute(2.0, 2, "bilinear").result[0]
    sigmas = custom.KarrasScheduler.execute(5, 14.6, 0.03, 7.0).result[0]

    def run(model: Any) -> Any:
        with torch.inference_mode():
            return custom.SamplerCustom.execute(
                model, True, 3, 5.0, s.positive, s.negative, sampler, sigmas, {"samples": torch.zeros(1, 4, 8, 8)}
            ).result[0]["samples"]

    assert run(s.model).shape[-1] == 16
    with pytest.raises(
        UserInputError, match=r"changed the latent from .1, 4, 8, 8. to .1, 4, \d+, \d+. between its steps"
    ):
        run(dci(s.model, active_fraction=1.0))
    assert run(dci(s.model, active_fraction=0.05)).shape[-1] == 16


def test_two_hundred_runs_leave_nothing_behind() -> None:
    """Resident memory stays flat, and the next plain run is that of the first day."""
    s = scene("mini")
    model, masks = apply_dci(s.model, DCISettings(injection_strength=1.0, active_fraction=0.5))
    stock, first = sample(s, s.model, steps=2), sample(s, model, steps=2)

    def grown(runs: int, sampled: Any, expected: torch.Tensor) -> tuple[float, int]:
        """Return by what factor resident memory, and by how many the collected objects, have grown."""
        gc.collect()
        memory, objects = resident_bytes(), len(gc.get_objects())
        for _ in range(runs):
            last = sample(s, sampled, steps=2)
        assert torch.equal(last, expected)
        gc.collect()
        return resident_bytes() / memory, len(gc.get_objects()) - objects

    _, hosts_own = grown(40, s.model, stock)
    grown(KEPT_RUNS, model, first)  # whose masks are kept
    factor, objects = grown(200, model, first)
    assert len(masks.latest.calls) == 1
    assert factor < 1.02 and objects <= 5 * hosts_own + 50
    assert torch.equal(sample(s, s.model, steps=2), stock)


def resident_bytes() -> int:
    return psutil.Process(os.getpid()).memory_info().rss
