"""Every guider of the host: the stock image with a forced blend, and both branches guided by its own formula."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy_extras.nodes_custom_sampler as custom
import pytest
import torch
from comfyui_dci.dci_core.sampling.branches import auxiliary_noise
from comfyui_dci.nodes.host.sampling import auxiliary_branch
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY
from rows_seen import assert_only_the_positive_is_blended, rows_seen
from sampled import GivenNoise, guider_of, sample_guider, watching_latents
from scenes import dci, relative_difference, scene

pytestmark = pytest.mark.sweep

GUIDERS = ["cfg", "dual", "dual nested", "perp-neg", "basic"]
if hasattr(custom, "DualModelGuider"):  # newer than 0.18.1
    GUIDERS.append("two models")


def sample(kind: str, model: Any, positive: Any = None, noise: Any = None) -> torch.Tensor:
    s = scene()
    return sample_guider(guider_of(kind, model, positive or s.positive, s.negative), model, noise)


@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize("kind", GUIDERS)
def test_a_blend_forced_to_the_concept_is_the_stock_guider(kind: str, share_guidance: bool) -> None:
    s = scene()
    stock = sample(kind, s.model)
    forced = dci(s.model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(sample(kind, forced), stock)
    assert relative_difference(sample(kind, dci(s.model, share_guidance=share_guidance)), stock) > 1e-4


@pytest.mark.parametrize("kind", GUIDERS)
def test_the_auxiliary_branch_is_the_guiders_own_run_of_the_auxiliary_prompt(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scene()
    ours: list[torch.Tensor] = []
    guide = auxiliary_branch.guide

    def watch(guider: Any, conds: Any, x: torch.Tensor, *args: Any) -> torch.Tensor:
        ours.append(x.clone())
        return guide(guider, conds, x, *args)

    monkeypatch.setattr(auxiliary_branch, "guide", watch)
    sample(kind, dci(s.model, share_guidance=False, active_fraction=0.9))
    carried = s.positive[0][1][CARRIED_KEY]
    noise = auxiliary_noise(comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), 3), 3)
    watched, theirs = watching_latents(s.model)
    sample(kind, watched, [[carried.cross_attn, {"pooled_output": carried.pooled_output}]], GivenNoise(noise))
    assert len(ours) >= 3
    for step, latent in enumerate(ours):
        assert relative_difference(latent, theirs[step]) < 1e-5, step


@pytest.mark.parametrize("kind", GUIDERS)
def test_sharing_predictions_changes_nothing_where_both_branches_stand_at_the_same_place(kind: str) -> None:
    """With one noise the first call has one latent. Of the two active calls only the first one's guidance counts."""
    s = scene()
    shared, exact = (
        sample(kind, dci(s.model, share_noise=True, share_guidance=share, active_fraction=0.26))
        for share in (True, False)
    )
    assert relative_difference(shared, exact) < 1e-4


@pytest.mark.parametrize("kind", GUIDERS)
def test_only_the_positive_rows_are_blended(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    with rows_seen(monkeypatch) as seen:
        sample(kind, dci(s.model))
    if kind == "basic":
        assert seen and all(changed for _, _, changed in seen)
    else:
        assert_only_the_positive_is_blended(seen)
