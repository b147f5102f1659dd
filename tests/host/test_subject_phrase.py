"""V* with words between it and its noun, and in plural: token sets, texts, and what the node says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfyui_dci.nodes import aux_prompt_builder
from comfyui_dci.nodes.aux_prompt_builder import AuxPromptBuilder
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY, build_conditioning
from comfyui_dci.nodes.host.tokenizer import real_tokens
from node_runs import run
from scenes import encode, random_concept, scene

STARS = ["*", "*", "*"]


def words_at(clip: Any, text: str, positions: tuple[int, ...]) -> list[str]:
    """Return the words at positions of a prompt, "*" for a concept vector."""
    _, tokens = real_tokens(clip, text)
    (name, rows), *_ = tokens.items()
    inverse = getattr(clip.tokenizer, f"clip_{name}").inv_vocab
    table = {position: inverse[int(t)].removesuffix("</w>") if isinstance(t, int) else "*" for position, t in rows}
    return [table[position] for position in positions]


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize(
    ("prompt", "concept_words", "auxiliary_text", "context"),
    [
        ("a V* red cat in snow", [*STARS, "cat"], "a red dog in snow", ["a", "red", "in", "snow"]),
        ("two V* cats", [*STARS, "cats"], "two dogs", ["two"]),
        ("two (V* big red:1.2) Cats", [*STARS, "cats"], "two (big red:1.2) dogs", ["two", "big", "red"]),
        ("a V*(cat:1.2)", [*STARS, "cat"], "a (dog:1.2)", ["a"]),
        (
            "V* red cat, V* cats, V*",
            [*STARS, "cat", *STARS, "cats", *STARS, "cat"],
            "red dog, dogs, dog",
            ["red", *",,"],
        ),
        ("V*, cat in snow", [*STARS, "cat"], "dog, cat in snow", [",", "cat", "in", "snow"]),
        ("a V* red cat and dogs", [*STARS, "cat"], "a red dog and dogs", ["a", "red", "and", "dogs"]),
        ("many things, " * 30 + "a V* red cat", [*STARS, "cat"], "many things, " * 30 + "a red dog", None),
    ],
)
def test_each_branch_answers_for_its_own_words(
    family: str, prompt: str, concept_words: list[str], auxiliary_text: str, context: list[str] | None
) -> None:
    s = scene(family)
    with torch.inference_mode():
        built = build_conditioning(s.clip, prompt, "dog")
    payload = built.conditioning[0][1][CARRIED_KEY]
    assert words_at(s.clip, built.concept_text, payload.concept_tokens.selected) == concept_words
    assert built.auxiliary_text == auxiliary_text
    assert torch.equal(payload.cross_attn, encode(s.base.clip, auxiliary_text)[0][0])
    assert torch.equal(built.conditioning[0][0], encode(s.clip, prompt)[0][0])
    if context is not None:
        assert words_at(s.base.clip, auxiliary_text, payload.auxiliary_tokens.selected) == context
    else:
        assert len(payload.auxiliary_tokens.prompt) - len(payload.auxiliary_tokens.selected) == 1


def test_a_noun_of_several_tokens_behind_other_words_is_found_whole() -> None:
    base = scene().base
    with torch.inference_mode():
        _, clip = apply_concept(base.model, base.clip, random_concept(base, class_noun="tortoise plushy"))
        built = build_conditioning(clip, "two V* old (tortoise:1.2) plushies on grass", "dog")
    payload = built.conditioning[0][1][CARRIED_KEY]
    words = words_at(clip, built.concept_text, payload.concept_tokens.selected)
    assert words[:3] == STARS and "".join(words[3:]) == "tortoiseplushies"
    assert built.auxiliary_text == "two old (dogs:1.2) on grass"


def test_auto_chooses_with_the_words_between_and_in_plural() -> None:
    s = scene()
    with torch.inference_mode():
        built = build_conditioning(s.clip, "two V* wooden cats beside a horse", "auto")
    (choice,) = built.choices
    assert choice.noun not in ("cat", "horse")
    assert built.auxiliary_text.startswith("two wooden ") and choice.noun[:3] in built.auxiliary_text


def test_the_node_says_that_the_class_noun_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(aux_prompt_builder, "text_of_node", lambda node: told.append)
    run(AuxPromptBuilder, clip=scene().clip, prompt="V*, cat in the snow", auxiliary_noun="dog")
    (text,) = told
    assert text.startswith('"cat" stays in the auxiliary prompt and counts as context')
    assert 'as in "V* cat"' in text and "; read as: V* cat, cat in the snow; " in text
    told.clear()
    run(AuxPromptBuilder, clip=scene().clip, prompt="a V* fluffy cat in the snow", auxiliary_noun="dog")
    assert told == ["auxiliary prompt: a fluffy dog in the snow"]
