"""Token positions with the host's real tokenizers: found in what is encoded, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prompt.auxiliary_noun import COMMON_NOUNS
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY, build_conditioning
from comfyui_dci.nodes.host.tokenizer import known_concepts, real_tokens
from scenes import Scene, encode, random_concept, scene

from workbench.tiny import tiny


def words_at(clip: Any, text: str, positions: tuple[int, ...]) -> list[str]:
    """Return the words at positions of a prompt, "*" for a concept vector."""
    _, tokens = real_tokens(clip, text)
    (name, rows), *_ = tokens.items()
    inverse = getattr(clip.tokenizer, f"clip_{name}").inv_vocab
    table = {position: inverse[int(t)].removesuffix("</w>") if isinstance(t, int) else "*" for position, t in rows}
    return [table[position] for position in positions]


@torch.inference_mode()
def carried(clip: Any, prompt: str, noun: str = "dog", **options: Any) -> Any:
    return build_conditioning(clip, prompt, noun, **options).conditioning[0][1][CARRIED_KEY]


@pytest.fixture(scope="module")
def plushy() -> Scene:
    with torch.inference_mode():
        base = tiny("sd1")
        concept = random_concept(base, class_noun="tortoise plushy")
        return Scene(base, concept, *apply_concept(base.model, base.clip, concept), None, None)


@pytest.mark.parametrize(
    ("prompt", "concept_words", "auxiliary_text"),
    [
        ("a V* cat in times square", ["*", "*", "*", "cat"], "a dog in times square"),
        ("a (V* cat:1.2) in times square", ["*", "*", "*", "cat"], "a (dog:1.2) in times square"),
        ("a ((V*)) cat sleeping", ["*", "*", "*", "cat"], "a ((dog)) sleeping"),
        ("a V* (cat:0.8) sleeping", ["*", "*", "*", "cat"], "a (dog:0.8) sleeping"),
        ("V*, asleep.", ["*", "*", "*", "cat"], "dog, asleep."),
        ("a v* Cat's bed", ["*", "*", "*", "cat"], "a dog's bed"),
        ("V* cat and V* again", ["*", "*", "*", "cat", "*", "*", "*", "cat"], "dog and dog again"),
        ("a V* with a cat and a catfish", ["*", "*", "*", "cat"], "a dog with a cat and a catfish"),
        ("a V* catfish", ["*", "*", "*", "cat"], "a dog catfish"),
        ("a (V*:1.2)'s bed", ["*", "*", "*", "cat"], "a (dog:1.2)'s bed"),
    ],
)
def test_the_concepts_tokens_are_found(prompt: str, concept_words: list[str], auxiliary_text: str) -> None:
    s = scene()
    built = build_conditioning(s.clip, prompt, "dog")
    payload = built.conditioning[0][1][CARRIED_KEY]
    assert words_at(s.clip, prompt, payload.concept_tokens.selected) == concept_words
    assert built.auxiliary_text == auxiliary_text
    assert "dog" not in words_at(s.clip, auxiliary_text, payload.auxiliary_tokens.selected)
    left_out = set(payload.auxiliary_tokens.prompt) - set(payload.auxiliary_tokens.selected)
    assert set(words_at(s.clip, auxiliary_text, tuple(sorted(left_out)))) == {"dog"}


@pytest.mark.parametrize("phrase", ["V* tortoise plushy", "V* tortoise (plushy:1.2)", "(V* tortoise:0.8) plushy"])
def test_a_noun_of_several_tokens_is_found_whole(plushy: Scene, phrase: str) -> None:
    prompt = f"a {phrase} painted on a house"
    payload = carried(plushy.clip, prompt)
    words = words_at(plushy.clip, prompt, payload.concept_tokens.selected)
    assert words[:3] == ["*"] * 3 and "".join(words[3:]) == "tortoiseplushy"
    with torch.inference_mode():
        auxiliary_text = build_conditioning(plushy.clip, prompt, "dog").auxiliary_text
    context = words_at(plushy.clip, auxiliary_text, payload.auxiliary_tokens.selected)
    assert context == ["a", "painted", "on", "a", "house"]


def test_the_auxiliary_noun_elsewhere_in_the_prompt_stays_context() -> None:
    s = scene()
    payload = carried(s.clip, "a V* cat beside a dog")
    assert words_at(s.clip, "a dog beside a dog", payload.auxiliary_tokens.selected) == ["a", "beside", "a", "dog"]


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_the_auxiliary_text_is_encoded_as_the_stock_node_encodes_it(family: str) -> None:
    s = scene(family)
    built = build_conditioning(s.clip, "a (V* cat:1.2) on a (red:0.7) carpet, dog", "dog")
    payload = built.conditioning[0][1][CARRIED_KEY]
    stock = encode(s.base.clip, built.auxiliary_text)
    assert torch.equal(payload.cross_attn, stock[0][0])
    assert torch.equal(payload.pooled_output, stock[0][1]["pooled_output"])


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_prompts_longer_than_one_chunk_are_followed(family: str) -> None:
    s = scene(family)
    prompt = "a painting of many things, " * 13 + "and a V* cat!"
    built = build_conditioning(s.clip, prompt, "dog")
    payload = built.conditioning[0][1][CARRIED_KEY]
    assert built.conditioning[0][0].shape[1] == 154
    assert words_at(s.clip, prompt, payload.concept_tokens.selected) == ["*", "*", "*", "cat"]
    assert min(payload.concept_tokens.selected) > 77
    assert 77 not in payload.concept_tokens.prompt and 0 not in payload.concept_tokens.prompt  # starts of the chunks
    assert words_at(s.clip, prompt, payload.concept_tokens.prompt[-1:]) == ["!"]  # id 0 is padding elsewhere


def test_padding_and_end_are_no_prompt_tokens() -> None:
    payload = carried(scene("sdxl").clip, "V* cat")
    assert payload.concept_tokens.prompt == (1, 2, 3, 4) and payload.auxiliary_tokens.prompt == (1,)
    assert payload.auxiliary_tokens.selected == ()


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_the_stock_encode_knows_the_concept_and_plain_prompts_are_untouched(family: str) -> None:
    s = scene(family)
    assert torch.equal(encode(s.clip, "a dog (on grass:1.3)")[0][0], encode(s.base.clip, "a dog (on grass:1.3)")[0][0])
    assert not torch.equal(encode(s.clip, "a V* cat")[0][0], encode(s.base.clip, "a V* cat")[0][0])
    known = known_concepts(s.clip)[0]
    tokens = s.base.clip.tokenize("a dog dog dog cat")
    by_hand = {
        name: [
            [
                (known.vectors[f"clip_{name}"][column - 2], 1.0) if column in (2, 3, 4) else pair
                for column, pair in enumerate(row)
            ]
            for row in rows
        ]
        for name, rows in tokens.items()
    }
    assert torch.equal(encode(s.clip, "a V* cat")[0][0], s.base.clip.encode_from_tokens(by_hand))


def test_auto_takes_the_noun_that_fits_best_and_never_the_class_noun(plushy: Scene) -> None:
    with torch.inference_mode():
        base = scene().base
        _, clip = apply_concept(base.model, base.clip, random_concept(base, class_noun="toy dog"))
        built = build_conditioning(clip, "a V* toy dog asleep beside a horse", "AUTO")
    (choice,) = built.choices
    assert choice.noun in set(COMMON_NOUNS) - {"dog", "horse"} and choice.ranking[0][0] == choice.noun
    assert built.auxiliary_text == f"a {choice.noun} asleep beside a horse"
    assert build_conditioning(clip, "a V* toy dog asleep", "cat").choices == ()


def test_auto_without_a_scene_takes_the_first_noun() -> None:
    built = build_conditioning(scene().clip, "V* cat", "auto")
    assert built.auxiliary_text == "dog" and "no scene to choose by" in built.choices[0].text()


def test_without_the_entire_prompt_each_branch_sees_its_own_words() -> None:
    s = scene()
    built = build_conditioning(s.clip, "a V* cat carved from ice", "dog", entire_prompt=False)
    assert (built.concept_text, built.auxiliary_text) == ("V* cat", "a carved from ice")
    payload = built.conditioning[0][1][CARRIED_KEY]
    assert payload.auxiliary_tokens.selected == payload.auxiliary_tokens.prompt == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("prompt", "noun", "message"),
    [
        ("a cat in times square", "dog", "does not contain V\\*.*Write V\\* where your subject belongs"),
        ("a V* cat", "Cat", "own class noun.*Choose another"),
        ("a V* cat", "  ", "is empty.*Choose another"),
        ("a V* cat", "V*", "plain words"),
        ("a V* cat", "dog (big)", "plain words"),
    ],
)
def test_unusable_prompts_and_nouns_are_refused_with_the_fix(prompt: str, noun: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        build_conditioning(scene().clip, prompt, noun)


def test_a_placeholder_that_the_tokenizer_swallows_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    s = scene()
    monkeypatch.setattr(s.clip.tokenizer.clip_l, "embedding_directory", [str(tmp_path)])
    with pytest.raises(UserInputError, match="not as a word of its own"):
        build_conditioning(s.clip, "a cat, embedding:V* on grass", "dog")


def test_an_auxiliary_noun_that_cannot_be_found_again_is_refused() -> None:
    with pytest.raises(UserInputError, match="does not occur in the auxiliary prompt"):
        build_conditioning(scene().clip, "a V* cat", "\ue001")


@pytest.mark.parametrize(
    ("prompt", "word"), [("a 'V* cat' sign", "dog"), ("d'V* in snow", "dog"), ("two 'V* cats' signs", "dogs")]
)
def test_a_mark_that_would_be_read_with_the_noun_is_kept_apart(prompt: str, word: str) -> None:
    s = scene()
    built = build_conditioning(s.clip, prompt, "dog")
    payload = built.conditioning[0][1][CARRIED_KEY]
    assert "' dog" in built.auxiliary_text
    assert torch.equal(payload.cross_attn, encode(s.base.clip, built.auxiliary_text)[0][0])
    left = [place for place in payload.auxiliary_tokens.prompt if place not in payload.auxiliary_tokens.selected]
    assert words_at(s.base.clip, built.auxiliary_text, tuple(left)) == [word]


def test_a_placeholder_as_the_auxiliary_noun_is_refused() -> None:
    with pytest.raises(UserInputError, match="does not occur in the auxiliary prompt.*it names a concept"):
        build_conditioning(scene().clip, "a sks dog in snow", "V*", subject="sks dog")


def test_without_concept_and_subject_the_error_names_both_ways() -> None:
    with pytest.raises(UserInputError, match="Connect the CLIP that Apply Concept returns.*write in subject the words"):
        build_conditioning(scene().base.clip, "a V* cat", "dog")


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_share_of_lora_strength_outside_its_range_is_refused(strength: float) -> None:
    with pytest.raises(UserInputError, match="auxiliary_lora_strength is .*take 0 … 1"):
        build_conditioning(scene().clip, "a V* cat", "dog", auxiliary_lora_strength=strength)


@pytest.fixture(scope="module")
def both() -> Any:
    """A CLIP that knows V*, a cat, and <mug>, a coffee mug."""
    s = scene()
    with torch.inference_mode():
        other = random_concept(s.base, seed=8, class_noun="coffee mug", placeholder="<mug>")
        return apply_concept(s.model, s.clip, other)[1]


@pytest.mark.parametrize(
    ("prompt", "nouns", "concept_words", "auxiliary_text", "context"),
    [
        (
            "a V* cat with a <mug> coffee mug, asleep",
            "dog, red ball",
            ["*", "*", "*", "cat", "*", "*", "*", "coffee", "mug"],
            "a dog with a red ball, asleep",
            ["a", "with", "a", ",", "asleep"],
        ),
        (
            "a <mug> on a (V* cat:1.2)",
            "ball, dog",
            [*"***", "coffee", "mug", *"***", "cat"],
            "a ball on a (dog:1.2)",
            ["a", "on", "a"],
        ),
        (
            "V* <mug> and a dog",
            "dog,horse",
            [*"***", "cat", *"***", "coffee", "mug"],
            "dog horse and a dog",
            ["and", "a", "dog"],
        ),
    ],
)
def test_two_concepts_have_each_their_tokens_and_their_noun(
    both: Any, prompt: str, nouns: str, concept_words: list[str], auxiliary_text: str, context: list[str]
) -> None:
    built = build_conditioning(both, prompt, nouns)
    payload = built.conditioning[0][1][CARRIED_KEY]
    assert words_at(both, prompt, payload.concept_tokens.selected) == concept_words
    assert built.auxiliary_text == auxiliary_text
    assert words_at(both, auxiliary_text, payload.auxiliary_tokens.selected) == context
    assert torch.equal(payload.cross_attn, encode(scene().base.clip, auxiliary_text)[0][0])
    assert torch.equal(built.conditioning[0][0], encode(both, prompt)[0][0])


@pytest.mark.parametrize("nouns", ["auto", "chair, auto", "auto,dog"])
def test_auto_gives_each_concept_a_noun_of_its_own(both: Any, nouns: str) -> None:
    built = build_conditioning(both, "V* cat and <mug> coffee mug on a chair", nouns)
    first, second = built.auxiliary_text.removesuffix(" on a chair").split(" and ")
    assert first != second and {first, second} <= set(COMMON_NOUNS) - {"cat"}
    given = [noun.strip() for noun in nouns.split(",")] if "," in nouns else ["auto", "auto"]
    assert [noun for noun in given if noun != "auto"] == [
        noun for noun, asked in zip((first, second), given, strict=True) if asked != "auto"
    ]
    assert [choice.noun for choice in built.choices] == [
        noun for noun, asked in zip((first, second), given, strict=True) if asked == "auto"
    ]


@pytest.mark.parametrize(
    ("nouns", "message"),
    [
        ("dog", "names V\\* and <mug>, but there are 1 auxiliary nouns.*one for each in this order"),
        ("dog, ball, tree", "there are 3 auxiliary nouns"),
        ("dog, cat", "'cat' is the concept's own class noun"),
        ("coffee mug, dog", "'coffee mug' is the concept's own class noun"),
        ("dog,", "is empty"),
        ("dog, V*", "plain words"),
    ],
)
def test_nouns_that_do_not_fit_two_concepts_are_refused(both: Any, nouns: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        build_conditioning(both, "a V* cat with a <mug>", nouns)


def test_one_of_two_known_concepts_works_as_ever(both: Any) -> None:
    s = scene()
    assert build_conditioning(both, "a <mug> coffee mug on grass", "dog").auxiliary_text == "a dog on grass"
    with pytest.raises(UserInputError, match="works on one concept: turn entire_prompt on"):
        build_conditioning(both, "a V* cat with a <mug>", "dog, ball", entire_prompt=False)
    with pytest.raises(UserInputError, match="already knows a concept called V\\*"), torch.inference_mode():
        apply_concept(s.model, s.clip, random_concept(s.base, seed=9))
