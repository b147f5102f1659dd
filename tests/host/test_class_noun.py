"""V* alone is read as "V* <noun>": by every text encode of the applied CLIP, and said where it is done."""

from __future__ import annotations

import copy
from typing import Any

import nodes as host_nodes
import pytest
import torch
from comfyui_dci.dci_core.concept.concept import renamed
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.concepts.applying import apply_concept, reading_of
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY, BuiltConditioning, build_conditioning
from comfyui_dci.nodes.host.tokenizer import clip_with_concept, known_concepts
from scenes import Scene, encode, random_concept, scene

FAMILIES = ("sd1", "sd2", "sdxl")


def same(a: Any, b: Any) -> bool:
    """Tell whether two conditionings are bit for bit the same text."""
    return torch.equal(a[0][0], b[0][0]) and torch.equal(a[0][1]["pooled_output"], b[0][1]["pooled_output"])


@torch.inference_mode()
def text_encode(clip: Any, text: str) -> Any:
    return host_nodes.CLIPTextEncode().encode(clip, text)[0]


@torch.inference_mode()
def built(clip: Any, prompt: str, noun: str = "dog", **options: Any) -> BuiltConditioning:
    return build_conditioning(clip, prompt, noun, **options)


@torch.inference_mode()
def as_written(s: Scene) -> Any:
    """Return a CLIP that knows the scene's concept with the switch off."""
    return clip_with_concept(s.base.clip, s.concept, add_class_noun=False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a V* on grass", "a V* cat on grass"),
        ("a (V*:1.3) on (grass:0.7)", "a (V* cat:1.3) on (grass:0.7)"),
        ("((V*)) beside a cat, v*'s bed", "((V* cat)) beside a cat, V* cat's bed"),
        ("many things, " * 30 + "V*.", "many things, " * 30 + "V* cat."),
    ],
)
def test_the_stock_encode_reads_the_noun_that_was_left_out(family: str, prompt: str, read: str) -> None:
    s = scene(family)
    assert same(text_encode(s.clip, prompt), text_encode(s.clip, read))
    assert not same(text_encode(as_written(s), prompt), text_encode(s.clip, prompt))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "prompt", ["a V* cat on grass", "a (V*:1.2) cat", "a V* fluffy cat", "a dog (on grass:1.3)", ""]
)
def test_a_prompt_with_its_noun_is_read_as_written(family: str, prompt: str) -> None:
    s = scene(family)
    assert same(text_encode(s.clip, prompt), text_encode(as_written(s), prompt))


@pytest.mark.parametrize("family", FAMILIES)
def test_with_the_switch_off_nothing_is_added(family: str) -> None:
    s = scene(family)
    known = known_concepts(s.clip)[0]
    tokens = as_written(s).tokenize("a V* on grass")
    assert len(tokens) == (2 if family == "sdxl" else 1)
    for name, rows in s.base.clip.tokenize("a dog dog dog on grass").items():
        expected = [token for token, _ in rows[0]]
        row = [token for token, _ in tokens[name][0]]
        own = known_concepts(as_written(s))[0].vectors[f"clip_{name}"]
        assert all(torch.equal(got, want) for got, want in zip(row[2:5], own, strict=True))
        assert row[:2] + row[5:] == expected[:2] + expected[5:]
    assert known.add_class_noun and not known_concepts(as_written(s))[0].add_class_noun


def test_the_clip_given_in_keeps_its_class_and_its_reading() -> None:
    s = scene("sdxl")
    tokenizer = s.base.clip.tokenizer
    before = {
        name: (type(getattr(tokenizer, name)), vars(getattr(tokenizer, name)).copy()) for name in ("clip_l", "clip_g")
    }
    stock = text_encode(s.base.clip, "a V* on grass")
    with torch.inference_mode():
        _, clip = apply_concept(s.base.model, s.base.clip, s.concept)
    for name, (kind, state) in before.items():
        encoder = getattr(tokenizer, name)
        assert type(encoder) is kind and vars(encoder) == state
        assert isinstance(getattr(clip.tokenizer, name), kind)
    assert same(text_encode(s.base.clip, "a V* on grass"), stock)
    assert not hasattr(tokenizer, "dci_concepts")


@pytest.fixture(scope="module")
def both() -> Any:
    """A CLIP that knows V*, a cat, and W*, a coffee mug."""
    s = scene()
    return clip_with_concept(s.clip, random_concept(s.base, seed=8, class_noun="coffee mug", placeholder="W*"))


def test_two_concepts_get_each_their_noun_once(both: Any) -> None:
    read = "a V* cat beside a (W* coffee mug:1.2), W* coffee mug"
    assert same(text_encode(both, "a V* beside a (W*:1.2), W* coffee mug"), text_encode(both, read))
    result = built(both, "a V* beside a (W*:1.2), W* coffee mug", "dog, ball")
    assert result.concept_text == read and result.auxiliary_text == "a dog beside a (ball:1.2), ball"
    kinds = [kind.__name__ for kind in type(both.tokenizer.clip_l).__mro__]
    assert kinds.count("_AddsNouns") == 1, "a clone of a clone adds its nouns once"


def test_one_of_two_concepts_can_be_taken_as_written() -> None:
    s = scene()
    other = random_concept(s.base, seed=8, class_noun="coffee mug", placeholder="W*")
    mixed = clip_with_concept(s.clip, other, add_class_noun=False)
    assert same(text_encode(mixed, "a V* with a W*"), text_encode(mixed, "a V* cat with a W*"))
    assert not same(text_encode(mixed, "a V* with a W*"), text_encode(mixed, "a V* cat with a W* coffee mug"))
    assert built(mixed, "V* W* coffee mug", "dog, ball").concept_text == "V* cat W* coffee mug"


def test_another_placeholder_gets_the_noun_as_well() -> None:
    s = scene()
    clip = clip_with_concept(s.base.clip, renamed(s.concept, "tom"))
    assert same(text_encode(clip, "Tom on grass"), text_encode(clip, "tom cat on grass"))


def test_options_of_the_tokenizer_arrive_and_copies_go_on_reading() -> None:
    s = scene()
    words = s.clip.tokenize("a (V*:1.2) in snow", return_word_ids=True)["l"][0]
    assert len(words[0]) == 3 and [weight for _, weight, _ in words[1:8]] == pytest.approx([1.0, *[1.2] * 4, 1.0, 1.0])
    plain = s.clip.tokenize("a (V*:1.2)", disable_weights=True)["l"][0]
    assert {weight for _, weight in plain} == {1.0}
    longer = s.clip.tokenize("V*", tokenizer_options={"clip_l_min_length": 80})["l"][0]
    assert len(longer) == 80
    copied = copy.copy(s.clip.tokenizer.clip_l)
    copied.pad_to_max_length = False
    assert len(copied.tokenize_with_weights("V*")[0]) == 6  # start, three vectors, cat, end


@pytest.mark.parametrize("family", FAMILIES)
def test_aux_prompt_builder_reads_and_tells_what_it_read(family: str) -> None:
    s = scene(family)
    left_out, written = built(s.clip, "a (V*:1.2) in snow"), built(s.clip, "a (V* cat:1.2) in snow")
    assert left_out.concept_text == written.concept_text == "a (V* cat:1.2) in snow"
    assert left_out.auxiliary_text == written.auxiliary_text == "a (dog:1.2) in snow"
    assert left_out.remarks() == ["read as: a (V* cat:1.2) in snow"] and written.remarks() == []
    assert same(left_out.conditioning, written.conditioning)
    assert same(left_out.conditioning, text_encode(s.clip, "a (V*:1.2) in snow"))
    ours, theirs = (result.conditioning[0][1][CARRIED_KEY] for result in (left_out, written))
    assert ours.concept_tokens == theirs.concept_tokens and ours.concept_tokens.selected == (2, 3, 4, 5)
    assert ours.auxiliary_tokens == theirs.auxiliary_tokens and torch.equal(ours.cross_attn, theirs.cross_attn)


def test_aux_prompt_builder_takes_prompts_as_written_with_the_switch_off() -> None:
    s = scene()
    result = built(as_written(s), "a V* in snow")
    assert (result.concept_text, result.auxiliary_text, result.remarks()) == ("a V* in snow", "a dog in snow", [])
    assert result.conditioning[0][1][CARRIED_KEY].concept_tokens.selected == (2, 3, 4)


def test_the_choice_of_auto_is_the_same_and_told_first() -> None:
    s = scene()
    left_out, written = (
        built(s.clip, "a V* on a sunny beach", "auto"),
        built(s.clip, "a V* cat on a sunny beach", "auto"),
    )
    assert left_out.choices == written.choices and left_out.auxiliary_text == written.auxiliary_text
    first, second = left_out.remarks()
    assert first.startswith("auxiliary noun ") and second == "read as: a V* cat on a sunny beach"


def test_without_the_entire_prompt_the_concept_branch_has_its_noun() -> None:
    result = built(scene().clip, "a V* carved from ice", entire_prompt=False)
    assert (result.concept_text, result.auxiliary_text) == ("V* cat", "a carved from ice")
    assert result.remarks() == ["read as: V* cat"]
    with pytest.raises(UserInputError, match="Nothing is left of the prompt"):
        built(scene().clip, "V*", entire_prompt=False)


def test_apply_concept_says_how_it_reads() -> None:
    info = scene().concept.info
    assert reading_of(info, True) == 'V* is read as "V* cat"'
    assert reading_of(info, False) == "V* is read as written, cat is not added"


def test_an_embedding_by_the_placeholders_name_is_left_alone() -> None:
    s = scene()
    assert same(encode(s.clip, "embedding:V* on grass"), encode(as_written(s), "embedding:V* on grass"))
