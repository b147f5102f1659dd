"""The study of words between V* and its noun: the published rule beside ours."""

from __future__ import annotations

import numpy as np
import torch
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY, build_conditioning
from scenes import scene

from study.words_between import RULES, exact_phrase, table


def test_the_published_rule_replaces_the_exact_phrase_and_leaves_the_noun_behind_other_words() -> None:
    clip = scene().clip
    with torch.inference_mode():
        ours = build_conditioning(clip, "a V* red cat, V* cat", "dog")
        with exact_phrase():
            published = build_conditioning(clip, "a V* red cat, V* cat", "dog")
        again = build_conditioning(clip, "a V* red cat, V* cat", "dog")
    assert ours.auxiliary_text == again.auxiliary_text == "a red dog, dog"
    assert published.auxiliary_text == "a dog red cat, dog"
    sets = [built.conditioning[0][1][CARRIED_KEY].concept_tokens for built in (ours, published)]
    assert len(sets[0].selected) == len(sets[1].selected) + 1  # the first cat


def test_what_the_words_bring_is_told_in_pairs() -> None:
    first, second = np.array([[0.5, 0.9, 0.2], [0.7, 0.9, 0.4]]), np.array([[0.6, 0.9, 0.5], [0.8, 0.9, 0.7]])
    lines = table({("w", RULES[0]): first, ("w", RULES[1]): second}).splitlines()
    assert lines[3] == "w,difference,+0.10 (+0.10 … +0.10),+0.00 (+0.00 … +0.00),+0.30 (+0.30 … +0.30)"
