"""The record of blend masks: means by hand, one map per size and call."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.masks import BlendMasks, MaskCollector, RunStamp, stretched
from comfyui_dci.dci_core.sampling.strength import MapScale


def recorded() -> BlendMasks:
    """Two calls: the first with two layers of 2 × 2 and one of 1 × 2, the second with one layer of 2 × 2."""
    collector = MaskCollector()
    collector.add(torch.tensor([[[0.0, 0.2, 0.4, 0.6], [0.2, 0.4, 0.6, 0.8]]]), (2, 2))  # two heads
    collector.add(torch.tensor([[[0.5, 0.5]]]), (1, 2))
    collector.add(torch.tensor([[[0.5, 0.5, 0.5, 0.5]]]), (2, 2))
    collector.finish_call(14.6, 999.0)
    collector.add(torch.ones(1, 3, 4), (2, 2))
    collector.finish_call(7.0, 900.0)
    return collector.masks()


def test_heads_and_layers_of_one_size_are_averaged_by_hand() -> None:
    first, second = recorded().calls
    # heads: (0.1, 0.3, 0.5, 0.7); with the other layer of that size: (0.3, 0.4, 0.5, 0.6)
    torch.testing.assert_close(first.maps[2, 2], torch.tensor([[[0.3, 0.4], [0.5, 0.6]]]))
    torch.testing.assert_close(first.maps[1, 2], torch.tensor([[[0.5, 0.5]]]))
    torch.testing.assert_close(second.maps[2, 2], torch.ones(1, 2, 2))


def test_each_call_keeps_its_noise_level_and_timestep() -> None:
    assert [(call.sigma, call.timestep) for call in recorded().calls] == [(14.6, 999.0), (7.0, 900.0)]


def test_pixels_keep_their_place_in_maps_that_are_not_square() -> None:
    collector = MaskCollector()
    collector.add(torch.arange(6.0).view(1, 1, 6) / 10, (2, 3))
    collector.finish_call(1.0, 1.0)
    masks = collector.masks()
    torch.testing.assert_close(masks.calls[0].maps[2, 3], torch.tensor([[[0.0, 0.1, 0.2], [0.3, 0.4, 0.5]]]))


def test_sizes_are_listed_largest_first() -> None:
    masks = recorded()
    assert masks.sizes == [(2, 2), (1, 2)]
    assert list(masks.calls[0].maps) == [(2, 2), (1, 2)]


def test_the_images_of_a_batch_stay_apart() -> None:
    collector = MaskCollector()
    collector.add(torch.stack([torch.zeros(3, 4), torch.ones(3, 4), torch.full((3, 4), 0.5)]), (2, 2))
    collector.finish_call(1.0, 1.0)
    masks = collector.masks()
    assert masks.batch == 3
    assert masks.calls[0].maps[2, 2].mean(dim=(1, 2)).tolist() == [0.0, 1.0, 0.5]


def test_a_record_without_calls_is_empty() -> None:
    masks = BlendMasks()
    assert (masks.calls, masks.sizes, masks.batch) == ((), [], 0)


def test_a_call_without_layers_is_not_recorded() -> None:
    collector = MaskCollector()
    collector.finish_call(1.0, 1.0)
    masks = collector.masks()
    assert masks.calls == ()


def test_a_dropped_call_leaves_no_trace_in_the_next() -> None:
    collector = MaskCollector()
    collector.add(torch.ones(1, 1, 4), (2, 2))
    collector.add(torch.ones(1, 1, 2), (1, 2))
    collector.drop_call()
    collector.finish_call(2.0, 2.0)
    masks = collector.masks()
    assert masks.calls == ()
    collector.add(torch.zeros(1, 1, 4), (2, 2))
    collector.finish_call(1.0, 1.0)
    masks = collector.masks()
    assert masks.sizes == [(2, 2)]
    assert masks.calls[0].maps[2, 2].tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


def test_a_finished_call_leaves_no_trace_in_the_next() -> None:
    second = recorded().calls[1]
    assert set(second.maps) == {(2, 2)}
    assert second.maps[2, 2].mean() == 1.0


def test_masks_do_not_change_with_what_is_collected_after_them() -> None:
    collector = MaskCollector(latent_size=(2, 2))
    collector.add(torch.ones(1, 1, 4), (2, 2))
    collector.finish_call(2.0, 2.0)
    first = collector.masks()
    collector.latent_size = (4, 4)
    collector.add(torch.zeros(1, 1, 4), (2, 2))
    collector.finish_call(1.0, 1.0)
    assert len(first.calls) == 1 and first.latent_size == (2, 2) and first.calls[0].maps[2, 2].min() == 1.0
    assert len(collector.masks().calls) == 2
    with pytest.raises(FrozenInstanceError):
        first.calls = ()  # which is what the test is about


def test_two_records_share_nothing() -> None:
    first, second = MaskCollector(), MaskCollector()
    first.add(torch.ones(1, 1, 4), (2, 2))
    first.finish_call(1.0, 1.0)
    second.finish_call(1.0, 1.0)
    assert second.masks().calls == ()


def test_recording_detaches_and_leaves_the_given_weights_alone() -> None:
    weight = torch.full((1, 1, 4), 0.25, requires_grad=True)
    collector = MaskCollector()
    collector.add(weight, (2, 2))
    collector.add(torch.ones(1, 1, 4), (2, 2))
    collector.finish_call(1.0, 1.0)
    masks = collector.masks()
    assert not masks.calls[0].maps[2, 2].requires_grad
    assert torch.equal(weight.detach(), torch.full((1, 1, 4), 0.25))


def test_half_precision_masks_are_averaged_in_float32() -> None:
    collector = MaskCollector()
    collector.add(torch.full((1, 4096, 1), 0.25, dtype=torch.float16), (1, 1))
    collector.finish_call(1.0, 1.0)
    masks = collector.masks()
    assert masks.calls[0].maps[1, 1].dtype == torch.float32
    assert masks.calls[0].maps[1, 1].tolist() == [[[0.25]]]


def test_heads_are_kept_apart_and_averaged_over_the_layers_by_hand() -> None:
    collector = MaskCollector()
    collector.add(torch.tensor([[[0.0, 0.2], [0.4, 0.6]]]), (1, 2))
    collector.add(torch.tensor([[[1.0, 0.4], [0.2, 0.0]]]), (1, 2))
    collector.finish_call(1.0, 1.0)
    masks = collector.masks()
    heads = masks.calls[0].heads[1, 2]  # [1, 2 heads, 1, 2]
    torch.testing.assert_close(heads, torch.tensor([[[[0.5, 0.3]], [[0.3, 0.3]]]]))
    torch.testing.assert_close(masks.selected(head=2).calls[0].maps[1, 2], torch.tensor([[[0.3, 0.3]]]))


def test_a_layer_with_other_heads_counts_with_its_mean() -> None:
    collector = MaskCollector()
    collector.add(torch.tensor([[[0.0], [0.4]]]), (1, 1))
    collector.add(torch.tensor([[[0.1], [0.2], [0.6]]]), (1, 1))
    collector.finish_call(1.0, 1.0)
    masks = collector.masks()
    torch.testing.assert_close(masks.calls[0].heads[1, 1].flatten(), torch.tensor([0.15, 0.35]))


def scaled() -> BlendMasks:
    """Two calls on a latent of 4 × 4: full maps of two heads, half maps of three."""
    collector = MaskCollector(latent_size=(4, 4))
    for call in (0.1, 0.2):
        collector.add(torch.tensor([1.0, 2.0])[None, :, None].expand(1, 2, 16) * call, (4, 4))
        collector.add(torch.tensor([3.0, 4.0, 5.0])[None, :, None].expand(1, 3, 4) * call, (2, 2))
        collector.finish_call(1.0, 1000.0 * call)
    return collector.masks()


def test_a_selection_holds_what_was_asked_for() -> None:
    masks = scaled()
    assert masks.selected(MapScale.HALF).sizes == [(2, 2)] and masks.selected(MapScale.FULL).sizes == [(4, 4)]
    assert [call.number for call in masks.selected(call=2).calls] == [2]
    assert masks.selected(head=3).sizes == [(2, 2)]  # full maps have two heads only
    assert masks.selected().sizes == masks.sizes
    assert torch.equal(masks.selected().average(4, 4), masks.average(4, 4))


def test_a_row_is_one_image_of_the_batch() -> None:
    collector = MaskCollector()
    collector.add(torch.tensor([0.1, 0.2, 0.3])[:, None, None].expand(3, 2, 4), (2, 2))
    collector.finish_call(1.0, 1.0)
    masks = replace(collector.masks(), stamp=RunStamp(3, 16, 16))
    second = masks.selected(row=2)
    assert (masks.selected().batch, second.batch, second.stamp) == (3, 1, masks.stamp)
    torch.testing.assert_close(second.average(16, 16), torch.full((1, 16, 16), 0.2))


def test_the_average_counts_sizes_calls_and_heads_alike_by_hand() -> None:
    masks = scaled()
    assert masks.average(8, 6).shape == (1, 8, 6)
    means = {
        (None, 0, 0): (0.225 + 0.6) / 2,  # full: 1.5 · 0.15, half: 4 · 0.15
        (MapScale.FULL, 0, 0): 0.225,
        (MapScale.HALF, 2, 0): 0.8,
        (MapScale.HALF, 1, 3): 0.5,
        (None, 1, 1): (0.1 + 0.3) / 2,
    }
    for selection, expected in means.items():
        average = masks.selected(*selection).average(8, 8)
        torch.testing.assert_close(average, torch.full((1, 8, 8), expected))


def test_the_average_keeps_places() -> None:
    collector = MaskCollector()
    collector.add(torch.tensor([[[0.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 1.0]]]), (2, 2))
    collector.finish_call(1.0, 1.0)
    masks = collector.masks()
    upper_right, lower_right = masks.average(8, 8)
    assert upper_right[0, -1] == 1.0 and upper_right[-1].max() == 0.0 and lower_right[-1, -1] == 1.0


def test_a_selection_of_nothing_is_refused_with_what_there_is() -> None:
    masks = scaled()
    for selection, message in (
        ((MapScale.EIGHTH, 0, 0), "no maps of scale eighth, only full, half"),
        ((None, 3, 0), "no call 3: the run had 2 active calls"),
        ((None, 0, 4), "no head 4 in these maps; the most any has is 3"),
        ((MapScale.FULL, 0, 3), "no head 3"),
    ):
        with pytest.raises(UserInputError, match=message):
            masks.selected(*selection)
    with pytest.raises(UserInputError, match="no masks to average"):
        BlendMasks().average(8, 8)


def test_stretching_takes_each_mask_from_black_to_white() -> None:
    masks = torch.tensor([[[0.2, 0.3]], [[0.5, 0.5]], [[0.0, 1.0]]])
    torch.testing.assert_close(stretched(masks), torch.tensor([[[0.0, 1.0]], [[0.5, 0.5]], [[0.0, 1.0]]]))
