"""A base model as one object: asked once for what it is, and left as it was."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from comfyui_dci.nodes.host import model as model_module
from comfyui_dci.nodes.host.families import family_of
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.model_scale import scale_of
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from training_runs import inputs, settings

from workbench.tiny import tiny


@pytest.mark.parametrize(
    "family, encoders, pooled_from", [("sd1", {"clip_l"}, None), ("sdxl", {"clip_l", "clip_g"}, "clip_g")]
)
def test_a_model_says_what_it_is(family: str, encoders: set[str], pooled_from: str | None) -> None:
    base = HostModel(*tiny(family))
    assert (base.family.name, base.family.pooled_from) == (family, pooled_from)
    assert set(base.tokenizers) == encoders == set(base.family.text_encoders)
    assert base.sigmas is base.model.get_model_object("model_sampling").sigmas
    base.check_trainable()
    base.check_vae()
    with pytest.raises(FrozenInstanceError):
        base.model = None  # which is what is tested


def test_a_whole_training_asks_for_the_family_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(model_module, "family_of", lambda model: asked.append(model) or family_of(model))
    base = HostModel(*tiny("mini"))
    with torch.inference_mode():
        scale_of(base)
        train_concept(base, inputs(), settings(), Storage(tmp_path))
    assert asked == [base.model]
