"""Two concepts in one prompt: both changes are in the model, and the blend treats them as one region of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from scenes import dci, encode, ksample, positive, random_concept, relative_difference, scene


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    s = scene()
    with torch.inference_mode():
        return apply_concept(s.model, s.clip, random_concept(s.base, seed=8, class_noun="mug", placeholder="<mug>"))


def test_the_changes_of_both_files_add_up_in_either_order(both: tuple[Any, Any]) -> None:
    s = scene()
    with torch.inference_mode():
        other = random_concept(s.base, seed=8, class_noun="mug", placeholder="<mug>")
        model, clip = apply_concept(*apply_concept(s.base.model, s.base.clip, other), s.concept)
    prompt = "a V* cat with a <mug> mug"
    assert torch.equal(encode(clip, prompt)[0][0], encode(both[1], prompt)[0][0])
    images = [ksample(dci(m), positive(c, prompt, "dog, ball"), encode(c, "blurry")) for m, c in ((model, clip), both)]
    assert relative_difference(*images) < 1e-3  # sums of three numbers round by their order
    alone = ksample(dci(s.model), positive(both[1], prompt, "dog, ball"), encode(both[1], "blurry"))
    assert relative_difference(images[1], alone) > 1e-2


def test_a_prompt_with_two_concepts_is_blended_and_forced_to_the_concepts_is_the_stock_sampler(
    both: tuple[Any, Any],
) -> None:
    model, clip = both
    conditioning, negative = positive(clip, "a V* cat with a <mug> mug", "dog, ball"), encode(clip, "blurry")
    stock = ksample(model, conditioning, negative)
    assert torch.equal(ksample(dci(model, forced_auxiliary_weight=0.0), conditioning, negative), stock)
    assert relative_difference(ksample(dci(model), conditioning, negative), stock) > 1e-4
