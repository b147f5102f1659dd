"""The record of blend masks: means by hand, one map per size and call."""

from __future__ import annotations

import math

import pytest
import torch
from comfyui_dci.dci_core.masks import BlendMasks


def recorded() -> BlendMasks:
    """Two calls: the first with two layers of 2 × 2 and one of 1 × 2, the second with one layer of 2 × 2."""
    masks = BlendMasks()
    masks.add(torch.tensor([[[0.0, 0.2, 0.4, 0.6], [0.2, 0.4, 0.6, 0.8]]]), (2, 2))  # two heads
    masks.add(torch.tensor([[[0.5, 0.5]]]), (1, 2))
    masks.add(torch.tensor([[[0.5, 0.5, 0.5, 0.5]]]), (2, 2))
    masks.finish_call(14.6, 999.0)
    masks.add(torch.ones(1, 3, 4), (2, 2))
    masks.finish_call(7.0, 900.0)
    return masks


def test_heads_and_layers_of_one_size_are_averaged_by_hand() -> None:
    first, second = recorded().calls
    # heads: (0.1, 0.3, 0.5, 0.7); with the other layer of that size: (0.3, 0.4, 0.5, 0.6)
    torch.testing.assert_close(first.maps[2, 2], torch.tensor([[[0.3, 0.4], [0.5, 0.6]]]))
    torch.testing.assert_close(first.maps[1, 2], torch.tensor([[[0.5, 0.5]]]))
    torch.testing.assert_close(second.maps[2, 2], torch.ones(1, 2, 2))


def test_each_call_keeps_its_noise_level_and_timestep() -> None:
    assert [(call.sigma, call.timestep) for call in recorded().calls] == [(14.6, 999.0), (7.0, 900.0)]


def test_pixels_keep_their_place_in_maps_that_are_not_square() -> None:
    masks = BlendMasks()
    masks.add(torch.arange(6.0).view(1, 1, 6) / 10, (2, 3))
    masks.finish_call(1.0, 1.0)
    torch.testing.assert_close(masks.calls[0].maps[2, 3], torch.tensor([[[0.0, 0.1, 0.2], [0.3, 0.4, 0.5]]]))


def test_sizes_are_listed_largest_first() -> None:
    masks = recorded()
    assert masks.sizes == [(2, 2), (1, 2)]
    assert list(masks.calls[0].maps) == [(2, 2), (1, 2)]


def test_the_images_of_a_batch_stay_apart() -> None:
    masks = BlendMasks()
    masks.add(torch.stack([torch.zeros(3, 4), torch.ones(3, 4), torch.full((3, 4), 0.5)]), (2, 2))
    masks.finish_call(1.0, 1.0)
    assert masks.batch == 3
    assert masks.calls[0].maps[2, 2].mean(dim=(1, 2)).tolist() == [0.0, 1.0, 0.5]


def test_the_mean_is_over_calls_and_sizes_by_hand() -> None:
    """Each map counts alike: 0.45 and 0.5 of the first call, 1 of the second."""
    assert recorded().mean() == pytest.approx((0.45 + 0.5 + 1.0) / 3)


def test_a_record_without_calls_is_empty() -> None:
    masks = BlendMasks()
    assert (masks.calls, masks.sizes, masks.batch) == ([], [], 0)
    assert math.isnan(masks.mean())


def test_a_call_without_layers_is_not_recorded() -> None:
    masks = BlendMasks()
    masks.finish_call(1.0, 1.0)
    assert masks.calls == []


def test_a_dropped_call_leaves_no_trace_in_the_next() -> None:
    masks = BlendMasks()
    masks.add(torch.ones(1, 1, 4), (2, 2))
    masks.add(torch.ones(1, 1, 2), (1, 2))
    masks.drop_call()
    masks.finish_call(2.0, 2.0)
    assert masks.calls == []
    masks.add(torch.zeros(1, 1, 4), (2, 2))
    masks.finish_call(1.0, 1.0)
    assert masks.sizes == [(2, 2)]
    assert masks.mean() == 0.0


def test_a_finished_call_leaves_no_trace_in_the_next() -> None:
    second = recorded().calls[1]
    assert set(second.maps) == {(2, 2)}
    assert second.maps[2, 2].mean() == 1.0


def test_clearing_forgets_finished_and_open_calls() -> None:
    masks = recorded()
    masks.add(torch.ones(1, 1, 4), (2, 2))
    masks.clear()
    masks.finish_call(1.0, 1.0)
    assert masks.calls == []
    assert masks.batch == 0


def test_two_records_share_nothing() -> None:
    first, second = BlendMasks(), BlendMasks()
    first.add(torch.ones(1, 1, 4), (2, 2))
    first.finish_call(1.0, 1.0)
    second.finish_call(1.0, 1.0)
    assert second.calls == []


def test_recording_detaches_and_leaves_the_given_weights_alone() -> None:
    weight = torch.full((1, 1, 4), 0.25, requires_grad=True)
    masks = BlendMasks()
    masks.add(weight, (2, 2))
    masks.add(torch.ones(1, 1, 4), (2, 2))
    masks.finish_call(1.0, 1.0)
    assert not masks.calls[0].maps[2, 2].requires_grad
    assert torch.equal(weight.detach(), torch.full((1, 1, 4), 0.25))


def test_half_precision_masks_are_averaged_in_float32() -> None:
    masks = BlendMasks()
    masks.add(torch.full((1, 4096, 1), 0.25, dtype=torch.float16), (1, 1))
    masks.finish_call(1.0, 1.0)
    assert masks.calls[0].maps[1, 1].dtype == torch.float32
    assert masks.mean() == 0.25
