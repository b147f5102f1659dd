"""Two concepts in one prompt: both changes are in the model, and the blend treats them as one region of tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from scenes import dci, encode, ksample, positive, random_concept, relative_difference, scene
from torch import Tensor

from demo_world.judge import Reading
from demo_world.vocabulary import EXEMPLARS, NOUNS, SUBJECTS
from study.plan import REPORTED
from study.two_concepts import WAYS, judged, pairs, prompt_of, table


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


def test_every_subject_leads_once_beside_one_of_another_noun_and_prompts_name_whom_they_apply() -> None:
    found = list(pairs(REPORTED))
    assert [first for first, _ in found] == list(REPORTED)
    assert all(SUBJECTS[first] != SUBJECTS[second] for first, second in found)
    assert next(pairs(("parrot", "flamingo", "panda"))) == ("parrot", "panda"), "both of the first two are birds"
    told = {way.name: prompt_of("panda", "parrot", way) for way in WAYS}
    assert told["plain nouns"] == "photo of a bear with a bird"
    assert told["first concept, plain noun, DCI"] == "photo of a V* bear with a bird"
    assert told["both concepts"] == "photo of a V* bear with a W* bird"


def test_a_pair_s_pictures_are_judged_by_who_leads_and_who_stands_beside() -> None:
    """Of two pictures one shows the panda with a bird, the other the parrot alone, in the panda's place."""

    def read(pictures: Tensor) -> Reading:
        sizes = (len(EXEMPLARS), len(NOUNS), 1 + len(NOUNS))
        exemplar, noun, second_noun = (torch.zeros(len(pictures), size) for size in sizes)
        for row, leader in enumerate(("panda", "parrot")):
            exemplar[row, EXEMPLARS.index(leader)] = 1
            noun[row, list(NOUNS).index(SUBJECTS[leader])] = 1
        second_noun[0, 1 + list(NOUNS).index("bird")] = 0.5
        second_noun[1, 0] = 1
        return Reading(exemplar, noun, second_noun, *(torch.empty(0) for _ in range(3)))

    judge: Any = SimpleNamespace(read=read)
    assert judged(judge, torch.zeros(2, 4, 4, 3), "panda", "parrot").tolist() == [0.5, 0.5, 0.25]
    lines = table({"some, way": np.array([[0.5, 0.5, 0.25], [0.5, 0.5, 0.25]])}).splitlines()
    assert lines[1] == '"some, way",0.50 (0.50 … 0.50),0.50 (0.50 … 0.50),0.25 (0.25 … 0.25)'
