"""Whatever an encoder returns beside the text belongs to its own text; what nodes add later stays on both branches."""

from __future__ import annotations

from typing import Any

import nodes as host_nodes
import pytest
import torch
from auxiliary_path import auxiliary_latents
from comfyui_dci.nodes.host.sampling.conditioning import build_conditioning
from conditions import lora_hooked, tiny_controlnet
from scenes import dci, encode, ksample, scene

PROMPT = "a V* cat on the moon"
AUXILIARY = "a dog on the moon"
VECTOR = -1
"""Stands among ids for a learned vector."""


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A CLIP whose encoder also returns a mask of its text, ids of another encoder, and what is the same for every text."""
    clip = scene().clip
    encode_weights = clip.cond_stage_model.encode_token_weights

    def with_options(tokens: Any) -> Any:
        text, pooled, *_ = encode_weights(tokens)
        ids = torch.tensor([[t if isinstance(t, int) else VECTOR for t, _ in row] for row in tokens["l"]])
        return text, pooled, {"attention_mask": (ids != 49407).long(), "other_ids": ids, "kind": "test"}

    monkeypatch.setattr(clip.cond_stage_model, "encode_token_weights", with_options)
    return clip


@torch.inference_mode()
def positive(clip: Any) -> Any:
    return build_conditioning(clip, PROMPT, "dog").conditioning


def twins(cond: Any, **settings: Any) -> list[Any]:
    """Return the auxiliary branch's conditions of each of its calls."""
    seen = auxiliary_latents(dci(scene().model, **settings), cond, encode(scene().clip, "blurry"))
    assert seen
    return [twin for conds, _ in seen for twin in conds]


def test_the_auxiliary_text_brings_its_own_options(clip: Any) -> None:
    ((text, options),), ((other, others),) = encode(clip, PROMPT), encode(clip, AUXILIARY)
    assert not torch.equal(options["other_ids"], others["other_ids"])
    cond = positive(clip)
    assert torch.equal(cond[0][0], text) and torch.equal(cond[0][1]["other_ids"], options["other_ids"])
    for twin in twins(cond):
        assert torch.equal(twin["cross_attn"].cpu(), other)
        assert torch.equal(twin["other_ids"], others["other_ids"]) and twin["kind"] == "test"
        assert torch.equal(twin["attention_mask"], others["attention_mask"])
        assert torch.equal(twin["pooled_output"], others["pooled_output"])


def test_an_option_that_only_the_prompt_has_is_not_the_auxiliary_texts(
    clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_weights = clip.cond_stage_model.encode_token_weights

    def of_some_texts(tokens: Any) -> Any:
        text, pooled, options = encode_weights(tokens)
        names_it = (options["other_ids"] == VECTOR).any()
        return text, pooled, {**options, **({"only_here": 1} if names_it else {"only_there": 2})}

    monkeypatch.setattr(clip.cond_stage_model, "encode_token_weights", of_some_texts)
    cond = positive(clip)
    assert cond[0][1]["only_here"] == 1 and "only_there" not in cond[0][1]
    for twin in twins(cond):
        assert "only_here" not in twin and twin["only_there"] == 2


def test_what_is_set_later_stays_on_both(clip: Any) -> None:
    hooked = lora_hooked(positive(clip))
    (ranged,) = host_nodes.ConditioningSetTimestepRange().set_range(hooked, 0.0, 0.9)
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    net = tiny_controlnet(scene().model)
    (controlled,) = host_nodes.ControlNetApply().apply_controlnet(ranged, net, image, 1.0)
    for twin in twins(controlled):
        assert [hook.hook_ref for hook in twin["hooks"].hooks] == [h.hook_ref for h in controlled[0][1]["hooks"].hooks]
        assert "timestep_end" in twin and twin["control"] is not None


def test_an_option_that_a_node_sets_later_stays_on_both(clip: Any) -> None:
    mask = torch.ones(1, 77)
    changed = [[text, {**options, "attention_mask": mask, "kind": "mine"}] for text, options in positive(clip)]
    for twin in twins(changed):
        assert twin["attention_mask"] is mask and twin["kind"] == "mine"
        assert torch.equal(twin["other_ids"], encode(clip, AUXILIARY)[0][1]["other_ids"])


def test_the_options_change_nothing_else(clip: Any) -> None:
    s = scene()
    cond, negative = positive(clip), encode(clip, "blurry")
    stock = ksample(s.model, encode(clip, PROMPT), negative)
    assert torch.equal(ksample(dci(s.model, forced_auxiliary_weight=0.0), cond, negative), stock)
    assert not torch.equal(ksample(dci(s.model), cond, negative), stock)
