"""The same result however the host arranges rows; the positive's rows are blended, all others never."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.samplers
import comfy_extras.nodes_pag
import node_helpers
import pytest
import torch
from comfyui_dci.nodes.host.sampling.attention import PATCH_KEY
from comfyui_dci.nodes.host.sampling.pairing import AUXILIARY
from rows_seen import ROUNDING, rows_seen, rows_split
from scenes import dci, encode, ksample, positive, relative_difference, scene

"""Other batch sizes round differently: relative to the largest value of the latent, float32."""


@pytest.mark.parametrize("share_guidance", [True, False])
def test_splitting_the_rows_changes_nothing(monkeypatch: pytest.MonkeyPatch, share_guidance: bool) -> None:
    s = scene()
    patched = dci(s.model, share_guidance=share_guidance)
    together = ksample(patched, s.positive, s.negative, batch=2)
    with rows_split(monkeypatch):
        split = ksample(patched, s.positive, s.negative, batch=2)
    assert relative_difference(split, together) < ROUNDING


def test_an_image_is_the_same_alone_and_in_a_batch() -> None:
    s = scene()
    patched = dci(s.model)
    batch = ksample(patched, s.positive, s.negative, batch=3)
    alone = ksample(patched, s.positive, s.negative, batch=1)
    assert relative_difference(batch[:1], alone) < ROUNDING
    third = ksample(patched, s.positive, s.negative, latent={"samples": torch.zeros(1, 4, 8, 8), "batch_index": [2]})
    assert relative_difference(batch[2:], third) < ROUNDING


def test_bfloat16_agrees_with_float32_as_far_as_it_can() -> None:
    full, half = scene(), scene("sd1", torch.bfloat16)
    exact = ksample(dci(full.model), full.positive, full.negative)
    plain = relative_difference(
        ksample(half.model, half.positive, half.negative), ksample(full.model, full.positive, full.negative)
    )
    rough = ksample(dci(half.model), half.positive, half.negative)
    # bfloat16 keeps 8 bits, so the stock sampler itself is off by a few per cent here; ours may be twice that.
    assert relative_difference(rough, exact) < 2 * plain + 0.02
    assert plain < 0.2


def test_a_negative_prompt_of_another_length_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    long = encode(s.clip, "blurry, " * 60)
    assert long[0][0].shape[1] == 154 > s.positive[0][0].shape[1]
    patched = dci(s.model)
    together = ksample(patched, s.positive, long)
    with rows_split(monkeypatch):
        assert relative_difference(ksample(patched, s.positive, long), together) < ROUNDING


def test_only_the_positive_rows_are_blended(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    with rows_seen(monkeypatch) as seen:
        ksample(dci(s.model), s.positive, s.negative)
    assert {(index, blended) for _, index, blended in seen} == {(0, True), (1, False)}


def test_without_guidance_there_is_no_unconditional_row(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    with rows_seen(monkeypatch) as seen:
        shared = ksample(dci(s.model), s.positive, s.negative, cfg=1.0)
    assert {index for _, index, _ in seen} == {0}
    assert torch.equal(shared, ksample(dci(s.model, share_guidance=False), s.positive, s.negative, cfg=1.0))


def test_the_hosts_area_copies_of_the_negative_are_not_blended(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    area = node_helpers.conditioning_set_values(s.positive, {"area": (8, 4, 0, 0), "strength": 1.0})
    both = area + positive(s.clip, "a V* in the snow")
    with rows_seen(monkeypatch) as seen:
        ksample(dci(s.model), both, s.negative, size=8)
    assert {(index, blended) for _, index, blended in seen} == {(0, True), (1, False)}


def test_the_hosts_area_copies_of_the_positive_are_blended(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    negative = s.negative + node_helpers.conditioning_set_values(
        encode(s.clip, "text"), {"area": (8, 4, 0, 0), "strength": 1.0}
    )
    with rows_seen(monkeypatch) as seen:
        ksample(dci(s.model), s.positive, negative, size=8)
    assert {(index, blended) for _, index, blended in seen} == {(0, True), (1, False)}


def test_a_plain_positive_beside_a_carrying_one_is_not_blended(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    with rows_seen(monkeypatch) as seen:
        ksample(dci(s.model), s.positive + encode(s.clip, "a castle"), s.negative)
    positives = [(key, blended) for key, index, blended in seen if index == 0]
    assert {blended for _, blended in positives} == {True, False}
    assert len({key for key, blended in positives if blended}) == 1


def test_the_extra_forward_of_perturbed_attention_is_blended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    model = comfy_extras.nodes_pag.PerturbedAttentionGuidance.execute(s.model, 2.0).result[0]
    with rows_seen(monkeypatch) as seen:
        ksample(dci(model), s.positive, s.negative, steps=2)
    per_key: dict[Any, list[bool]] = {}
    for key, _, blended in seen:
        per_key.setdefault(key, []).append(blended)
    layers = 16
    counts = sorted((len(flags), all(flags), any(flags)) for flags in per_key.values())
    assert counts == [
        (layers, False, False),
        (2 * layers, True, True),
    ]  # one active step: negative once, positive twice


@pytest.mark.parametrize("failing", [False, True])
def test_the_auxiliary_condition_is_gone_after_the_run(failing: bool) -> None:
    s = scene()
    calls: list[Any] = []

    class Watched(comfy.samplers.CFGGuider):
        def predict_noise(self, *args: Any, **kwargs: Any) -> Any:
            assert AUXILIARY in self.conds and PATCH_KEY in self.model_options
            calls.append(self)
            if failing:
                raise RuntimeError("stop")
            return super().predict_noise(*args, **kwargs)

    guider = Watched(dci(s.model))
    guider.set_conds(s.positive, s.negative)
    guider.set_cfg(5.0)
    sigmas = comfy.samplers.calculate_sigmas(s.model.get_model_object("model_sampling"), "normal", 3)
    sampler = comfy.samplers.sampler_object("euler")
    with torch.inference_mode(), pytest.raises(RuntimeError, match="stop") if failing else nullcontext():
        guider.sample(torch.randn(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), sampler, sigmas, seed=1)
    assert calls and AUXILIARY not in getattr(guider, "conds", {}) and AUXILIARY not in guider.original_conds
    assert PATCH_KEY not in guider.model_options
