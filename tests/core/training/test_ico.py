"""The training prompt of eq. 2, position by position, and where its vectors start."""

from __future__ import annotations

import math

import pytest
import torch
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.ico import (
    CONCEPT_INITIAL_IDS,
    PREFIX_WORDS,
    SUFFIX_WORDS,
    PromptWords,
    assemble_prompts,
    end_position,
    initial_concept,
    initial_contexts,
)
from torch import Tensor

WIDTH = 4


def marked(value: float, rows: int | None = None) -> Tensor:
    """Vectors that can be told apart: ``value``, ``value`` + 0.1, … in every entry."""
    if rows is None:
        return torch.full((WIDTH,), value)
    return (value + torch.arange(rows) / 10)[:, None].expand(rows, WIDTH).clone()


def marked_words(noun_tokens: int = 1, length: int = 77) -> PromptWords:
    return PromptWords(marked(100.0), marked(200.0, noun_tokens), marked(300.0), marked(400.0), length)


def layout(prompt: Tensor) -> list[float]:
    assert (prompt == prompt[:, :1]).all()
    return [round(value, 4) for value in prompt[:, 0].tolist()]


@pytest.mark.parametrize(
    "scheme, noun_tokens, expected",
    [
        # BOS [I]1 [T]1 [T]2 [T]3 [E] [I]2 EOS
        (ICOScheme(1, 1, 3), 1, [100.0, 1.0, 50.0, 50.1, 50.2, 200.0, 1.1, 300.0]),
        # BOS [I]1…4 [T]1 [T]2 [E]1 [E]2 [I]5 [I]6 EOS
        (ICOScheme(4, 2, 2), 2, [100.0, 1.0, 1.1, 1.2, 1.3, 50.0, 50.1, 200.0, 200.1, 1.4, 1.5, 300.0]),
        # BOS [T] [E] EOS
        (ICOScheme(0, 0, 1), 1, [100.0, 50.0, 200.0, 300.0]),
        (ICOScheme(0, 2, 1), 1, [100.0, 50.0, 200.0, 1.0, 1.1, 300.0]),
        (ICOScheme(2, 0, 1), 1, [100.0, 1.0, 1.1, 50.0, 200.0, 300.0]),
    ],
)
def test_the_prompt_is_laid_out_as_eq_2_says(scheme: ICOScheme, noun_tokens: int, expected: list[float]) -> None:
    words = marked_words(noun_tokens)
    contexts = torch.stack([marked(1.0, scheme.contexts), marked(2.0, scheme.contexts)])
    prompts = assemble_prompts(words, marked(50.0, scheme.concept_vectors), contexts, scheme)
    assert prompts.shape == (2, 77, WIDTH)
    assert layout(prompts[0]) == expected + [400.0] * (77 - len(expected))
    assert end_position(words, scheme) == len(expected) - 1
    own = [v + 1.0 if v < 2.0 else v for v in expected]  # the second image differs in its contexts only
    assert layout(prompts[1]) == pytest.approx(own + [400.0] * (77 - len(own)))


def test_gradients_reach_the_concept_and_each_images_own_contexts_only() -> None:
    scheme = ICOScheme(1, 1, 2)
    frozen = [value.requires_grad_() for value in (marked(1.0), marked(2.0, 1), marked(3.0), marked(4.0))]
    words = PromptWords(*(value.detach() for value in frozen), length=9)
    concept, contexts = torch.randn(2, WIDTH, requires_grad=True), torch.randn(3, 2, WIDTH, requires_grad=True)
    upstream = torch.randn(3, 9, WIDTH)
    assemble_prompts(words, concept, contexts, scheme).backward(upstream)
    assert concept.grad is not None
    assert contexts.grad is not None
    torch.testing.assert_close(concept.grad, upstream[:, 2:4].sum(dim=0))  # shared: summed over the images
    assert torch.equal(contexts.grad, upstream[:, [1, 5]])
    assert all(value.grad is None for value in frozen)


def test_a_prompt_that_just_fits_has_its_end_in_the_last_place() -> None:
    scheme = ICOScheme(16, 16, 16)
    words = marked_words(noun_tokens=27)
    prompts = assemble_prompts(words, marked(50.0, 16), marked(1.0, 32)[None], scheme)
    assert end_position(words, scheme) == 76
    assert prompts.shape == (1, 77, WIDTH)
    assert prompts[0, 76, 0] == 300.0


def test_captions_stand_behind_the_last_context_and_replace_nothing() -> None:
    scheme, words = ICOScheme(1, 1, 2), marked_words(length=12)
    contexts = torch.stack([marked(row + 1.0, 2) for row in range(3)])
    captions = [marked(600.0, 2), marked(0.0, 0), marked(700.0, 4)]
    prompts = assemble_prompts(words, marked(50.0, 2), contexts, scheme, captions)
    pad = 400.0
    # BOS [I]1 [T]1 [T]2 [E] [I]2 caption EOS padding
    assert layout(prompts[0]) == [100.0, 1.0, 50.0, 50.1, 200.0, 1.1, 600.0, 600.1, 300.0, pad, pad, pad]
    assert layout(prompts[1]) == [100.0, 2.0, 50.0, 50.1, 200.0, 2.1, 300.0, pad, pad, pad, pad, pad]
    assert layout(prompts[2]) == [100.0, 3.0, 50.0, 50.1, 200.0, 3.1, 700.0, 700.1, 700.2, 700.3, 300.0, pad]
    assert [end_position(words, scheme, len(caption)) for caption in captions] == [8, 6, 10]


def test_without_captions_the_prompts_are_the_same_bits() -> None:
    scheme, words, contexts = ICOScheme(2, 1, 1), marked_words(), torch.randn(3, 3, WIDTH)
    concept = torch.randn(1, WIDTH)
    plain = assemble_prompts(words, concept, contexts, scheme)
    assert torch.equal(plain, assemble_prompts(words, concept, contexts, scheme, [marked(0.0, 0)] * 3))


def test_a_caption_that_does_not_fit_is_refused_and_one_that_just_fits_is_not() -> None:
    scheme, words = ICOScheme(1, 1, 3), marked_words(length=12)
    contexts = marked(1.0, 2)[None]
    prompts = assemble_prompts(words, marked(50.0, 3), contexts, scheme, [marked(600.0, 4)])
    assert prompts[0, 11, 0] == 300.0
    with pytest.raises(UserInputError, match="needs 13 tokens, the text encoder takes 12. Use a shorter caption"):
        assemble_prompts(words, marked(50.0, 3), contexts, scheme, [marked(600.0, 5)])


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers() -> None:
    scheme, words = ICOScheme(16, 16, 16), marked_words(noun_tokens=28)
    for call in (
        lambda: end_position(words, scheme),
        lambda: assemble_prompts(words, marked(50.0, 16), marked(1.0, 32)[None], scheme),
    ):
        with pytest.raises(UserInputError) as refusal:
            call()
        assert "needs 78 tokens, the text encoder takes 77" in str(refusal.value)
        assert "Use a shorter class noun or fewer vectors." in str(refusal.value)


@pytest.mark.parametrize(
    "vectors, ids",
    [(1, [42170]), (2, [47629, 42170]), (3, [43514, 47629, 42170])],
)
def test_the_concept_starts_from_the_last_of_the_rare_words(vectors: int, ids: list[int]) -> None:
    table = torch.randn(49408, 2)
    rare = table[list(CONCEPT_INITIAL_IDS)]
    start = initial_concept(rare, ICOScheme(concept_vectors=vectors), torch.Generator().manual_seed(0))
    assert torch.equal(start, table[ids])


def test_more_vectors_than_rare_words_are_filled_up_in_front_with_small_noise() -> None:
    rare = torch.randn(3, 4096)
    start = initial_concept(rare, ICOScheme(concept_vectors=5), torch.Generator().manual_seed(0))
    assert start.shape == (5, 4096)
    assert torch.equal(start[2:], rare)
    # 4096 values each: five standard errors of mean and standard deviation
    assert start[:2].mean(dim=1).tolist() == pytest.approx([0.0, 0.0], abs=5 * 0.02 / math.sqrt(4096))
    assert start[:2].std(dim=1).tolist() == pytest.approx([0.02, 0.02], abs=5 * 0.02 / math.sqrt(2 * 4096))
    assert not torch.equal(start[0], start[1])


def test_contexts_start_from_the_words_and_every_image_has_its_own_copy() -> None:
    prefix, suffix = torch.randn(2, WIDTH), torch.randn(1, WIDTH)
    start = initial_contexts(prefix, suffix, 3, ICOScheme(2, 1, 1), WIDTH, torch.Generator().manual_seed(0))
    assert start.shape == (3, 3, WIDTH)
    for image in start:
        assert torch.equal(image, torch.cat([prefix, suffix]))
    start[0] += 1.0
    assert torch.equal(start[1], torch.cat([prefix, suffix]))


def test_contexts_without_a_phrase_start_from_small_independent_noise() -> None:
    suffix = torch.randn(1, 4096)
    start = initial_contexts(None, suffix, 2, ICOScheme(3, 1, 1), 4096, torch.Generator().manual_seed(0))
    drawn = start[:, :3].flatten(0, 1)  # [6, 4096]
    assert torch.equal(start[:, 3:], suffix.expand(2, 1, -1))
    assert drawn.std(dim=1).tolist() == pytest.approx([0.02] * 6, abs=5 * 0.02 / math.sqrt(2 * 4096))
    assert (torch.corrcoef(drawn) - torch.eye(6)).abs().max() < 5 / math.sqrt(4096)


def test_no_contexts_at_all_is_an_empty_set_per_image() -> None:
    assert initial_contexts(None, None, 4, ICOScheme(0, 0, 1), 8, torch.Generator()).shape == (4, 0, 8)


def test_the_same_generator_gives_the_same_start() -> None:
    def draw(seed: int) -> Tensor:
        return initial_contexts(None, None, 2, ICOScheme(3, 3, 1), 8, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_phrases_have_as_many_words_as_their_side_has_vectors() -> None:
    assert all(len(phrase) == count for phrases in (PREFIX_WORDS, SUFFIX_WORDS) for count, phrase in phrases.items())
    assert set(PREFIX_WORDS) == {1, 2, 3, 4}, "as published; the recommended schemes start from words"
    assert PREFIX_WORDS[3] == ("photo", "of", "a")
    assert set(SUFFIX_WORDS) >= {1, 2}


def test_the_default_scheme_is_the_one_for_dci() -> None:
    scheme = ICOScheme()
    assert (scheme.prefix, scheme.suffix, scheme.concept_vectors) == (1, 1, 3)
    assert ICOScheme(4, 2, 2).contexts == 6


@pytest.mark.parametrize("scheme", [(0, 0, 1), (16, 16, 16)])
def test_the_ends_of_the_schemes_ranges_are_allowed(scheme: tuple[int, int, int]) -> None:
    assert ICOScheme(*scheme).contexts == scheme[0] + scheme[1]


@pytest.mark.parametrize(
    "scheme, message",
    [
        ((-1, 1, 3), "prefix must be between 0 and 16, but got -1"),
        ((17, 1, 3), "prefix must be between 0 and 16, but got 17"),
        ((1, -1, 3), "suffix must be between 0 and 16, but got -1"),
        ((1, 17, 3), "suffix must be between 0 and 16, but got 17"),
        ((1, 1, 0), "concept_vectors must be between 1 and 16, but got 0"),
        ((1, 1, 17), "concept_vectors must be between 1 and 16, but got 17"),
    ],
)
def test_a_scheme_outside_its_ranges_is_refused(scheme: tuple[int, int, int], message: str) -> None:
    with pytest.raises(UserInputError) as refusal:
        ICOScheme(*scheme)
    assert message in str(refusal.value)


def test_words_on_another_device_are_the_same_words_of_the_same_length() -> None:
    words = marked_words(noun_tokens=2, length=9)
    moved = words.to(torch.device("meta"))
    assert (moved.noun.device.type, moved.noun.shape, moved.length) == ("meta", words.noun.shape, 9)
    assert {part.device.type for part in (moved.start, moved.end, moved.padding)} == {"meta"}
