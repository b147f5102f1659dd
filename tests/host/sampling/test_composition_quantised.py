"""Quantised checkpoints: the stock image when forced, another with DCI."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from quantised_models import FORMATS, OF_BLOCKS, model_of
from scenes import dci, encode, ksample, positive, random_concept, relative_difference


@pytest.mark.parametrize("kind", [*FORMATS, OF_BLOCKS])
@torch.inference_mode()
def test_dci_on_a_quantised_checkpoint(kind: str) -> None:
    base = model_of(kind)
    model, clip = apply_concept(base.model, base.clip, random_concept(base))
    given, negative = positive(clip), encode(clip, "blurry")
    stock = ksample(model, given, negative)
    assert torch.equal(ksample(dci(model, forced_auxiliary_weight=0.0), given, negative), stock)
    ours = ksample(dci(model), given, negative)
    assert ours.isfinite().all() and relative_difference(ours, stock) > 1e-4
