"""A white mask changes no bit, a black one is the stock sampler, and between each pixel obeys its own."""

from __future__ import annotations

import node_helpers
import pytest
import torch
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from scenes import dci, ksample, positive, scene

LEFT = torch.zeros(1, 64, 64)
LEFT[:, :, :32] = 1.0


@pytest.mark.parametrize("blend", ["masks", "sum", "mean"])
def test_white_is_everywhere_and_black_is_the_stock_sampler(blend: str) -> None:
    s = scene()
    args = (s.positive, s.negative)
    unlimited = ksample(dci(s.model, blend=blend), *args)
    assert torch.equal(ksample(dci(s.model, blend=blend, auxiliary_mask=torch.ones(1, 50, 70)), *args), unlimited)
    black = dci(s.model, blend=blend, auxiliary_mask=torch.zeros(64, 64))
    assert torch.equal(ksample(black, *args), ksample(s.model, *args))
    half = ksample(dci(s.model, blend=blend, auxiliary_mask=LEFT), *args)
    assert not torch.equal(half, unlimited) and not torch.equal(half, ksample(s.model, *args))


def test_the_auxiliary_branch_is_silent_where_the_mask_is_black_at_every_map_size() -> None:
    s = scene()
    settings = DCISettings(active_fraction=0.5, forced_auxiliary_weight=0.5, auxiliary_mask=LEFT)
    patched, masks = apply_dci(s.model, settings)
    ksample(patched, s.positive, s.negative, size=16)
    assert len(masks.latest.sizes) == 4
    for grid in (grid for call in masks.latest.calls for grid in call.maps.values()):
        width = grid.shape[-1]
        assert (grid[..., : width // 2] == 0.5).all() and (grid[..., width // 2 :] == 0.0).all()


def test_each_image_of_a_batch_obeys_its_own_mask() -> None:
    s = scene()
    settings = DCISettings(
        active_fraction=0.5,
        forced_auxiliary_weight=0.5,
        auxiliary_mask=torch.stack([torch.zeros(8, 8), torch.ones(8, 8)]),
    )
    patched, masks = apply_dci(s.model, settings)
    ksample(patched, s.positive, s.negative, batch=3)
    assert [grid.mean().item() for grid in masks.latest.calls[0].maps[8, 8]] == [0.0, 0.5, 0.0]


@pytest.mark.parametrize(("left", "silent"), [(0, False), (1, True)])
def test_an_area_of_the_prompt_obeys_its_part_of_the_mask(left: int, silent: bool) -> None:
    """The right half of the mask is black, so an area there is not touched, and one on the left wholly is."""
    s = scene()
    area = node_helpers.conditioning_set_values(
        positive(s.clip), {"area": (16, 8, 0, 8 * left), "strength": 1.0, "set_area_to_bounds": False}
    )
    limited = ksample(dci(s.model, auxiliary_mask=LEFT), area, s.negative, size=16)
    expected = s.model if silent else dci(s.model)
    assert torch.equal(limited, ksample(expected, area, s.negative, size=16))
