"""Which rows of a forward pass were recorded and blended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_base
import comfy.model_patcher
import pytest
import torch
from comfyui_dci.nodes.host.sampling.attention import DualBranchAttention
from comfyui_dci.nodes.host.sampling.layer_call import LayerCall


@contextmanager
def rows_seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Collect, per layer call of an injecting forward, which conditionings ran and which were blended."""
    seen: list[Any] = []
    inject = DualBranchAttention.inject

    def spy(self: Any, inner: Any, call: LayerCall, *rest: Any) -> Any:
        out, plain = inject(self, inner, call, *rest), call.through(inner)
        uuids = call.extra["uuids"]
        size = call.q.shape[0] // len(uuids)
        for index, key in enumerate(uuids):
            rows = slice(index * size, (index + 1) * size)
            seen.append((key, call.extra["cond_or_uncond"][index], not torch.equal(out[rows], plain[rows])))
        return out

    monkeypatch.setattr(DualBranchAttention, "inject", spy)
    yield seen


def assert_only_the_positive_is_blended(seen: list[Any], positives: int = 1) -> None:
    """Every row of as many conditionings was blended, and no row of any other, of which there were some."""
    blended = {key for key, _, changed in seen if changed}
    assert len(blended) == positives and all(changed for key, _, changed in seen if key in blended)
    assert len({index for key, index, _ in seen if key in blended}) == 1
    assert any(not changed for _, _, changed in seen)


ROUNDING = 5e-5


@contextmanager
def rows_split(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the host no memory for more than one conditioning at a time, and see that it did so."""
    rows: list[int] = []
    apply_model = comfy.model_base.BaseModel.apply_model

    def watch(self: Any, x: Any, *args: Any, transformer_options: Any = None, **kwargs: Any) -> Any:
        rows.append(len(transformer_options["uuids"]))
        return apply_model(self, x, *args, transformer_options=transformer_options, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda self, device: 1)
        patched.setattr(comfy.model_base.BaseModel, "apply_model", watch)
        yield
    assert rows and set(rows) == {1}
