"""DCI beside the host's context windows: both branches are cut alike, and so are noise and masks."""

from __future__ import annotations

from typing import Any

import comfy_extras.nodes_context_windows as context_windows
import pytest
import torch
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from rows_seen import ROUNDING, assert_only_the_positive_is_blended, rows_seen
from scenes import dci, ksample, relative_difference, scene

pytestmark = pytest.mark.sweep


def windowed(model: Any, **changes: Any) -> Any:
    options = {
        "context_length": 3,
        "context_overlap": 1,
        "context_schedule": "standard_static",
        "context_stride": 1,
        "closed_loop": False,
        "fuse_method": "pyramid",
        "dim": 0,
        "freenoise": False,
        **changes,
    }
    return context_windows.ContextWindowsManualNode.execute(model, **options).result[0]


@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "batched"])
def test_context_windows_keep_the_stock_image_when_forced(schedule: str, share_guidance: bool) -> None:
    s = scene()
    model = windowed(s.model, context_schedule=schedule)
    stock = ksample(model, s.positive, s.negative, batch=5)
    forced = dci(model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(ksample(forced, s.positive, s.negative, batch=5), stock)
    ours = ksample(dci(model, share_guidance=share_guidance), s.positive, s.negative, batch=5)
    assert relative_difference(ours, stock) > 1e-4


@pytest.mark.parametrize("changes", [{}, {"dim": 2, "context_length": 5, "context_overlap": 2}])
def test_only_the_positive_rows_of_each_window_are_blended(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scene()
    with rows_seen(monkeypatch) as seen:
        ksample(dci(windowed(s.model, **changes)), s.positive, s.negative, batch=1 if changes else 4)
    assert_only_the_positive_is_blended(seen)


def test_noise_shuffled_for_windows_is_the_same_whichever_node_comes_first() -> None:
    """FreeNoise, the host's default, shuffles the concept's noise in place before the sampler starts."""
    s = scene()
    model = windowed(s.model, freenoise=True)
    stock = ksample(model, s.positive, s.negative, batch=5)
    assert relative_difference(stock, ksample(windowed(s.model), s.positive, s.negative, batch=5)) > 1e-4
    assert torch.equal(ksample(dci(model, forced_auxiliary_weight=0.0), s.positive, s.negative, batch=5), stock)
    ours = ksample(dci(model), s.positive, s.negative, batch=5)
    assert relative_difference(ours, stock) > 1e-4
    for share_noise in (False, True):
        first = ksample(dci(model, share_noise=share_noise), s.positive, s.negative, batch=5)
        last = ksample(windowed(dci(s.model, share_noise=share_noise), freenoise=True), s.positive, s.negative, batch=5)
        assert torch.equal(first, last)


@pytest.mark.parametrize("share_guidance", [True, False])
def test_context_windows_over_independent_images_change_nothing(share_guidance: bool) -> None:
    """Images of a batch do not see each other, so cutting the batch into windows must not matter with DCI either."""
    s = scene()
    plain = ksample(dci(s.model, share_guidance=share_guidance), s.positive, s.negative, batch=5)
    cut = dci(windowed(s.model), share_guidance=share_guidance)
    assert relative_difference(ksample(cut, s.positive, s.negative, batch=5), plain) < ROUNDING


@pytest.mark.parametrize("share_guidance", [True, False])
def test_windows_over_the_height_of_one_image(share_guidance: bool) -> None:
    s = scene()
    model = windowed(s.model, context_length=5, context_overlap=2, dim=2)
    stock = ksample(model, s.positive, s.negative)
    assert relative_difference(stock, ksample(s.model, s.positive, s.negative)) > 1e-4
    forced = dci(model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(ksample(forced, s.positive, s.negative), stock)
    assert relative_difference(ksample(dci(model), s.positive, s.negative), stock) > 1e-4


def test_a_users_mask_is_cut_with_the_windows() -> None:
    """Of five images in windows of three, each with a mask of its own: as without windows."""
    s = scene()
    mask = torch.zeros(5, 8, 8)
    for row in range(5):
        mask[row, :, : row + 2] = 1.0
    plain = ksample(dci(s.model, auxiliary_mask=mask), s.positive, s.negative, batch=5)
    cut = ksample(dci(windowed(s.model), auxiliary_mask=mask), s.positive, s.negative, batch=5)
    assert relative_difference(cut, plain) < ROUNDING
    tall = windowed(s.model, context_length=5, context_overlap=2, dim=2)
    silent = dci(tall, auxiliary_mask=torch.zeros(1, 8, 8))
    assert torch.equal(ksample(silent, s.positive, s.negative), ksample(tall, s.positive, s.negative))
    upper = torch.zeros(1, 8, 8)
    upper[:, :4] = 1.0
    assert not torch.equal(
        ksample(dci(tall, auxiliary_mask=upper), s.positive, s.negative), ksample(silent, s.positive, s.negative)
    )


def test_masks_of_context_windows_are_not_recorded_but_their_mean_is_reported() -> None:
    s = scene()
    told: list[str] = []
    patched, masks = apply_dci(windowed(s.model), DCISettings(active_fraction=0.5), tell=told.append)
    ksample(patched, s.positive, s.negative, batch=5)
    assert masks.latest.calls == () and "% of the say; masks are not kept" in told[0]
    assert "; masks are not kept for context windows" in told[0]
