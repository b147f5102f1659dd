"""Scoring nouns with the host's own text encoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comfyui_dci.dci_core.prompt.auxiliary_noun import COMMON_NOUNS
from comfyui_dci.nodes import aux_prompt_builder
from comfyui_dci.nodes.aux_prompt_builder import AuxPromptBuilder
from comfyui_dci.nodes.host.sampling import auxiliary_noun
from comfyui_dci.nodes.host.sampling.auxiliary_noun import choose_noun, text_vectors
from node_runs import run
from scenes import encode, scene

LONG = "a painting of many things, " * 13 + "and a cat"


def end_row(clip: Any, text: str) -> torch.Tensor:
    """The end token's row of the stock encode; the tiny tokenizer's end is the host's 49407."""
    chunks = next(iter(clip.tokenize(text).values()))
    ids = [token for chunk in chunks for token, _ in chunk]
    last = len(ids) - 77
    return encode(clip, text)[0][0][0, last + ids[last:].index(49407)]


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_texts_are_read_at_their_end_many_at_once(family: str) -> None:
    clip = scene(family).base.clip
    texts = [
        "a dog on grass",
        "",
        LONG,
        "a (cat:1.3) at night",
        *(f"a photo of a {noun}" for noun in COMMON_NOUNS[:20]),
    ]
    with torch.inference_mode():
        vectors = text_vectors(clip, texts)
        expected = torch.stack([end_row(clip, text) for text in texts])
    torch.testing.assert_close(vectors, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_choice_is_the_best_of_all_scored_one_by_one(family: str) -> None:
    clip = scene(family).clip
    with torch.inference_mode():
        choice = choose_noun(clip, "a V* beside a horse on two chairs", "V*", "toy dog")
        context, neutral = end_row(clip, "a beside a horse on two chairs"), end_row(clip, "a photo")
        scores = {
            noun: F.cosine_similarity(end_row(clip, f"a {noun} beside a horse on two chairs"), context, dim=0).item()
            - F.cosine_similarity(end_row(clip, f"a photo of a {noun}"), neutral, dim=0).item()
            for noun in COMMON_NOUNS
            if noun not in ("dog", "horse", "chair")
        }
    best = sorted(scores, key=scores.__getitem__, reverse=True)[:3]
    assert [noun for noun, _ in choice.ranking] == best and choice.noun == best[0]
    assert [score for _, score in choice.ranking] == pytest.approx([scores[noun] for noun in best], abs=1e-5)


def test_neutral_prompts_are_encoded_once_for_each_text_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    read = auxiliary_noun.text_vectors

    def counted(clip: Any, texts: list[str]) -> torch.Tensor:
        asked.append(texts)
        return read(clip, texts)

    monkeypatch.setattr(auxiliary_noun, "text_vectors", counted)
    monkeypatch.setattr(auxiliary_noun, "_neutral", type(auxiliary_noun._neutral)())
    clip = scene().clip
    with torch.inference_mode():
        first = choose_noun(clip, "a V* at night", "V*", "cat")
        again = choose_noun(clip, "a V* at night", "V*", "cat")
        assert again == first and len(asked) == 3
        patched = clip.clone()
        key = next(key for key in patched.patcher.get_key_patches() if key.endswith("q_proj.weight"))
        patched.patcher.add_patches({key: (torch.ones_like(patched.patcher.get_key_patches()[key][0][0]),)})
        choose_noun(patched, "a V* at night", "V*", "cat")
    assert len(asked) == 5


def test_the_node_explains_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(aux_prompt_builder, "text_of_node", lambda node: told.append)
    _, _, text = run(AuxPromptBuilder, clip=scene().clip, prompt="a V* cat on grass", auxiliary_noun="auto")
    noun = text.removeprefix("a ").removesuffix(" on grass")
    assert noun != "cat" and told[0].startswith(f"auxiliary noun {noun}, fits the scene best: {noun} ")
    run(AuxPromptBuilder, clip=scene().clip, prompt="a V* cat on grass", auxiliary_noun="dog")
    assert told[1:] == ["auxiliary prompt: a dog on grass"]
