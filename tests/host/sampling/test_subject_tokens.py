"""The words of a prompt that name a subject of any LoRA: their tokens, and the auxiliary prompt, in every text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY, BuiltConditioning, build_conditioning
from comfyui_dci.nodes.host.tokenizer import real_tokens, tokenizers_of
from safetensors.torch import save_file
from scenes import encode, scene

FAMILIES = ("sd1", "sd2", "sdxl")
VECTORS = 4
STARS = ["*"] * VECTORS


class Phrase(NamedTuple):
    """A prompt as a user writes it, and how a user reads it.

    Args:
        subject: what names the subject.
        prompt: the user's.
        words: of T(P) in order, "*" for a learned vector.
        auxiliary_text: P_a.
        noun: auxiliary noun.
        times: how often the subject is named.
    """

    subject: str
    prompt: str
    words: list[str]
    auxiliary_text: str
    noun: str = "cat"
    times: int = 1


MANY = "many things, " * 24  # 72 of the 75 tokens of a chunk

PHRASES = {
    "plain": Phrase("sks dog", "a photo of sks dog in snow", ["sks", "dog"], "a photo of cat in snow"),
    "article": Phrase("sks dog", "a sks dog in snow", ["sks", "dog"], "a cat in snow"),
    "white space around": Phrase(" sks  dog ", "a sks dog in snow", ["sks", "dog"], "a cat in snow"),
    "whole emphasis": Phrase("sks dog", "a (sks dog:1.2) in snow", ["sks", "dog"], "a (cat:1.2) in snow"),
    "nested emphasis": Phrase("sks dog", "a ((sks dog)) in snow", ["sks", "dog"], "a ((cat)) in snow"),
    "deep emphasis": Phrase(
        "sks dog", "((a (sks dog:1.3) in snow:0.9))", ["sks", "dog"], "((a (cat:1.3) in snow:0.9))"
    ),
    "emphasis around more": Phrase("sks dog", "(a sks dog:1.2) in snow", ["sks", "dog"], "(a cat:1.2) in snow"),
    "emphasis on the first word": Phrase("sks dog", "a (sks:1.3) dog in snow", ["sks", "dog"], "a (cat:1.3) in snow"),
    "emphasis on the last word": Phrase("sks dog", "a sks (dog:0.8) in snow", ["sks", "dog"], "a (cat:0.8) in snow"),
    "emphasis elsewhere": Phrase("sks dog", "a sks dog in (deep:1.4) snow", ["sks", "dog"], "a cat in (deep:1.4) snow"),
    "letter case": Phrase("sks dog", "A Sks DOG in Snow", ["sks", "dog"], "A cat in Snow"),
    "letter case of the subject": Phrase("SKS Dog", "a sks dog in snow", ["sks", "dog"], "a cat in snow"),
    "comma behind": Phrase("sks dog", "sks dog, in snow", ["sks", "dog"], "cat, in snow"),
    "full stop": Phrase("sks dog", "Snow on a sks dog.", ["sks", "dog"], "Snow on a cat."),
    "tags": Phrase(
        "miku, 1girl", "masterpiece, miku, 1girl, night sky", ["miku", "1girl"], "masterpiece, boy, night sky", "boy"
    ),
    "tags in other order": Phrase("miku, 1girl", "1girl, miku, night sky", ["1girl", "miku"], "boy, night sky", "boy"),
    "tags apart": Phrase(
        "miku, 1girl", "miku, night sky, 1girl, solo", ["miku", "1girl"], "boy, night sky, boy, solo", "boy", 2
    ),
    "emphasis on tags": Phrase(
        "miku, 1girl", "solo, (miku, 1girl:1.1), night", ["miku", "1girl"], "solo, (boy:1.1), night", "boy"
    ),
    "tags without blanks": Phrase("miku,1girl", "solo,miku,1girl,night", ["miku", "1girl"], "solo,boy,night", "boy"),
    "escaped brackets": Phrase(
        r"miku \(vocaloid\)",
        r"1girl, miku \(vocaloid\), night sky",
        ["miku", "vocaloid"],  # ")," is one token, which is left to the context
        "1girl, boy, night sky",
        "boy",
    ),
    "embedding": Phrase(
        "embedding:my-cat cat", "a embedding:my-cat cat in snow", [*STARS, "cat"], "a dog in snow", "dog"
    ),
    "embedding in emphasis": Phrase(
        "embedding:my-cat cat",
        "a (embedding:my-cat cat:1.2) in snow",
        [*STARS, "cat"],
        "a (dog:1.2) in snow",
        "dog",
    ),
    "embedding with emphasis of its own": Phrase(
        "embedding:my-cat cat",
        "a (embedding:my-cat:1.2) cat in snow",
        [*STARS, "cat"],
        "a (dog:1.2) in snow",
        "dog",
    ),
    "embedding alone": Phrase("embedding:my-cat", "a embedding:my-cat in snow", STARS, "a dog in snow", "dog"),
    "embedding and comma": Phrase("embedding:my-cat", "embedding:my-cat, in snow", STARS, "dog, in snow", "dog"),
    "embedding as a tag": Phrase(
        "embedding:my-cat, 1girl", "solo, embedding:my-cat, 1girl", [*STARS, "1girl"], "solo, boy", "boy"
    ),
    "embedding twice": Phrase(
        "embedding:my-cat cat",
        "embedding:my-cat cat and embedding:my-cat cat",
        [*STARS, "cat", *STARS, "cat"],
        "dog and dog",
        "dog",
        2,
    ),
    "beside another embedding": Phrase(
        "embedding:my-cat cat",
        "a embedding:my-cat cat, embedding:style",
        [*STARS, "cat"],
        "a dog, embedding:style",
        "dog",
    ),
    "twice": Phrase(
        "sks dog", "a sks dog beside another sks dog", ["sks", "dog"] * 2, "a cat beside another cat", times=2
    ),
    "second chunk": Phrase("sks dog", f"{MANY}{MANY}a sks dog", ["sks", "dog"], f"{MANY}{MANY}a cat"),
    "across the border": Phrase("sks dog", f"{MANY}on a sks dog", ["sks", "dog"], f"{MANY}on a cat"),
    "in both chunks": Phrase(
        "sks dog", f"a sks dog, {MANY}a sks dog", ["sks", "dog"] * 2, f"a cat, {MANY}a cat", times=2
    ),
    "plural": Phrase("sks dog", "two sks dogs in snow", ["sks", "dogs"], "two cats in snow"),
    "words between": Phrase("sks dog", "a sks red dog in snow", ["sks", "dog"], "a red cat in snow"),
    "possessive": Phrase("sks dog", "a sks dog's hat", ["sks", "dog"], "a cat's hat"),
    "hyphen": Phrase("zwx-7 plush toy", "a zwx-7 plush toy in snow", ["zwx-7", "plush", "toy"], "a cat in snow"),
    "digits": Phrase("r2d2 robot", "r2d2 robot in 2024", ["r2d2", "robot"], "cat in 2024"),
    "digits behind": Phrase("sks 2", "sks 20 and sks 2", ["sks", "2"], "sks 20 and cat"),
    "other letters": Phrase("кот cat", "a кот cat in snow", ["кот", "cat"], "a dog in snow", "dog"),
    "accents": Phrase("Zoë", "photo of zoë in snow", ["zoë"], "photo of woman in snow", "woman"),
    "without blanks between": Phrase("初音ミク", "初音ミク, night sky", ["初音ミク"], "boy, night sky", "boy"),
    "line break": Phrase("sks dog", "a sks\ndog\nin snow", ["sks", "dog"], "a cat\nin snow"),
    "the whole prompt": Phrase("sks dog", "sks dog", ["sks", "dog"], "cat"),
    "one word": Phrase("ohwx", "photo of ohwx in snow", ["ohwx"], "photo of woman in snow", "woman"),
    "part of a word": Phrase(
        "ohwx man", "ohwx man and ohwx mankind, snowman", ["ohwx", "man"], "woman and ohwx mankind, snowman", "woman"
    ),
    "the rare word alone elsewhere": Phrase(
        "sks dog", "a sks dog in a sks park", ["sks", "dog"], "a cat in a sks park"
    ),
    "the class noun elsewhere": Phrase("sks dog", "a sks dog beside a dog", ["sks", "dog"], "a cat beside a dog"),
    "the auxiliary noun elsewhere": Phrase("sks dog", "a sks dog beside a cat", ["sks", "dog"], "a cat beside a cat"),
    "noun of two words": Phrase("sks dog", "a sks dog in snow", ["sks", "dog"], "a polar bear in snow", "polar bear"),
}


@pytest.fixture(autouse=True)
def embeddings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two embeddings of several vectors for every family: my-cat and style."""
    for family in FAMILIES:
        folder = tmp_path / family
        folder.mkdir()
        for name, rows in (("my-cat", VECTORS), ("style", 2)):
            save_file(random_vectors(family, rows), folder / f"{name}.safetensors")
        for clip in (scene(family).base.clip, scene(family).clip):
            for tokenizer in tokenizers_of(clip).values():
                monkeypatch.setattr(tokenizer, "embedding_directory", [str(folder)])


def random_vectors(family: str, rows: int) -> dict[str, torch.Tensor]:
    widths = {name: vectors.shape[1] for name, vectors in scene(family).concept.tokens.items()}
    return {name: 0.05 * torch.randn(rows, width) for name, width in widths.items()}


@torch.inference_mode()
def built(clip: Any, phrase: Phrase, **options: Any) -> BuiltConditioning:
    return build_conditioning(clip, phrase.prompt, phrase.noun, subject=phrase.subject, **options)


def ids_of(clip: Any, words: list[str]) -> list[int | str]:
    """Return the vocabulary ids of words, each on its own; "*" stays."""
    word_ids = next(iter(tokenizers_of(clip).values())).tokenizer
    return [i for word in words for i in (["*"] if word == "*" else word_ids(word)["input_ids"][1:-1])]


def ids_at(clip: Any, text: str, positions: tuple[int, ...]) -> list[int | str]:
    """Return the vocabulary ids at positions of a prompt, "*" for a learned vector; every text encoder has the same."""
    _, tokens = real_tokens(clip, text)
    table, *others = [{place: t if isinstance(t, int) else "*" for place, t in row} for row in tokens.values()]
    assert all(other == table for other in others)
    return [table[position] for position in positions]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PHRASES)
def test_the_tokens_are_those_a_user_means(family: str, name: str) -> None:
    clip, phrase = scene(family).base.clip, PHRASES[name]
    result = built(clip, phrase)
    assert result.auxiliary_text == phrase.auxiliary_text
    ((text, options),) = result.conditioning
    payload = options[CARRIED_KEY]
    assert ids_at(clip, phrase.prompt, payload.concept_tokens.selected) == ids_of(clip, phrase.words)
    assert torch.equal(text, encode(clip, phrase.prompt)[0][0])
    ((auxiliary, auxiliary_options),) = encode(clip, phrase.auxiliary_text)
    assert torch.equal(payload.cross_attn, auxiliary)
    assert torch.equal(payload.pooled_output, auxiliary_options["pooled_output"])
    left_out = sorted(set(payload.auxiliary_tokens.prompt) - set(payload.auxiliary_tokens.selected))
    noun = "cats" if name == "plural" else phrase.noun
    assert ids_at(clip, phrase.auxiliary_text, tuple(left_out)) == ids_of(clip, [noun]) * phrase.times


def test_there_are_thirty_phrases() -> None:
    assert len(PHRASES) >= 30


@pytest.mark.parametrize("family", FAMILIES)
def test_the_border_of_the_chunks_lies_within_the_subject(family: str) -> None:
    phrase = PHRASES["across the border"]
    payload = built(scene(family).base.clip, phrase).conditioning[0][1][CARRIED_KEY]
    assert payload.concept_tokens.selected == (75, 78)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("subject", ["V* cat", "v* CAT"])
def test_a_subject_may_hold_the_placeholder_of_an_applied_concept(family: str, subject: str) -> None:
    clip, prompt = scene(family).clip, "a V* cat in snow"
    theirs = built(clip, Phrase("", prompt, [], "", "dog"))
    ours = built(clip, Phrase(subject, prompt, [], "", "dog"))
    assert (ours.concept_text, ours.auxiliary_text) == (theirs.concept_text, theirs.auxiliary_text)
    ((text, options),), ((other, other_options),) = ours.conditioning, theirs.conditioning
    mine, its = options[CARRIED_KEY], other_options[CARRIED_KEY]
    assert torch.equal(text, other) and torch.equal(mine.cross_attn, its.cross_attn)
    assert (mine.concept_tokens, mine.auxiliary_tokens) == (its.concept_tokens, its.auxiliary_tokens)


@pytest.mark.parametrize(
    ("subject", "prompt", "noun", "message"),
    [
        ("", "a sks dog in snow", "cat", "subject.*Apply Concept|Apply Concept.*subject"),
        ("sks dog", "a red cat in snow", "bird", "sks dog"),
        ("sks dog", "a sks doghouse in snow", "bird", "sks dog"),
        ("sks dog", "a sks dog in snow", "dog", "Choose another"),
        ("embedding:nowhere cat", "a embedding:nowhere cat in snow", "dog", "nowhere"),
    ],
)
def test_what_cannot_be_found_is_refused(subject: str, prompt: str, noun: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        built(scene().base.clip, Phrase(subject, prompt, [], "", noun))
