"""A concept of ours, used as LoRA and embedding by the stock loaders, is Apply Concept with V*, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import nodes as host_nodes
import pytest
import torch
from comfyui_dci.nodes.apply_dci import ApplyDCI
from comfyui_dci.nodes.aux_prompt_builder import AuxPromptBuilder
from comfyui_dci.nodes.concepts import ApplyConcept, LoadConcept, SaveConcept
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY
from comfyui_dci.nodes.host.tokenizer import tokenizers_of
from node_runs import run
from safetensors.torch import save_file
from scenes import Scene, encode, ksample, scene

NAME = "my-cat"


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One folder for concepts, LoRAs and embeddings: the file is all three."""
    for kind in ("dci_concepts", "loras"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    for family in ("sd1", "sd2", "sdxl"):
        for tokenizer in tokenizers_of(scene(family).base.clip).values():
            monkeypatch.setattr(tokenizer, "embedding_directory", [str(tmp_path)])
    return tmp_path


def saved(s: Scene, **changes: Any) -> str:
    """Return the file name of the concept, as Save Concept writes it."""
    return str(run(SaveConcept, concept=s.concept, name=NAME, **changes)[1])


def by_apply_concept(s: Scene, file: str, prompt: str, **words: Any) -> tuple[Any, Any, Any]:
    """Return the model, the positive and the texts with V*."""
    (concept,) = run(LoadConcept, name=file)
    model, clip = run(ApplyConcept, model=s.base.model, clip=s.base.clip, concept=concept, strength=1.0)
    positive, *texts = run(AuxPromptBuilder, clip=clip, prompt=prompt.replace("{}", "V*"), **words)
    return model, positive, [text.replace("V*", f"embedding:{NAME}") for text in texts]


def by_stock_loaders(s: Scene, file: str, prompt: str, **words: Any) -> tuple[Any, Any, Any]:
    """Return the model, the positive and the texts with a LoRA, an embedding, and the words that name the subject."""
    model, clip = host_nodes.LoraLoader().load_lora(s.base.model, s.base.clip, file, 1.0, 1.0)
    prompt, subject = prompt.replace("{}", f"embedding:{NAME}"), f"embedding:{NAME} cat"
    positive, *texts = run(AuxPromptBuilder, clip=clip, prompt=prompt, subject=subject, **words)
    return model, positive, texts


def picture(model: Any, positive: Any, negative: Any) -> torch.Tensor:
    """Return what KSampler makes behind Apply DCI."""
    patched = run(ApplyDCI, model=model, injection_strength=1.0, active_fraction=0.5)[0]
    return ksample(patched, positive, negative, steps=2)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize(
    ("file", "prompt", "words"),
    [
        ({}, "a {} cat in times square, at night", {}),
        (
            {"precision": "float32"},
            "two ({} cats:1.2), a red {} cat on (grass:0.7)",
            {"auxiliary_noun": "dog"},
        ),
        ({"precision": "bfloat16"}, "many things, " * 30 + "and a {} cat", {"auxiliary_noun": "polar bear"}),
        ({"rank": 4}, "a {} cat on grass", {"auxiliary_lora_strength": 0.5}),
    ],
    ids=["as saved by default", "every bit, named twice", "in the second chunk", "as factors, weaker beside"],
)
def test_the_picture_is_the_same(
    folders: Path, family: str, file: dict[str, Any], prompt: str, words: dict[str, Any]
) -> None:
    s = scene(family)
    name, negative = saved(s, **file), encode(s.base.clip, "blurry")
    model, positive, texts = by_apply_concept(s, name, prompt, **words)
    stock_model, named, named_texts = by_stock_loaders(s, name, prompt, **words)
    assert named_texts == texts
    ((text, options),), ((other, other_options),) = positive, named
    ours, theirs = options[CARRIED_KEY], other_options[CARRIED_KEY]
    assert torch.equal(text, other) and torch.equal(ours.cross_attn, theirs.cross_attn)
    assert (ours.concept_tokens, ours.auxiliary_tokens) == (theirs.concept_tokens, theirs.auxiliary_tokens)
    expected = picture(model, positive, negative)
    assert torch.equal(picture(stock_model, named, negative), expected)
    assert not torch.equal(expected, ksample(model, positive, negative, steps=2))


def test_the_file_of_the_embedding_need_not_say_what_it_is(folders: Path) -> None:
    s = scene("sd1")
    name, prompt, words = saved(s), "a {} cat on grass", {"auxiliary_noun": "dog"}
    expected = by_apply_concept(s, name, prompt, **words)[1][0][1][CARRIED_KEY]
    (folders / "plain").mkdir()
    save_file(s.concept.tokens, folders / "plain" / name)
    for tokenizer in tokenizers_of(s.base.clip).values():
        tokenizer.embedding_directory = [str(folders / "plain")]
    carried = by_stock_loaders(s, name, prompt, **words)[1][0][1][CARRIED_KEY]
    assert torch.equal(carried.concept_cross_attn, expected.concept_cross_attn)
    assert torch.equal(carried.cross_attn, expected.cross_attn)
    assert (carried.concept_tokens, carried.auxiliary_tokens) == (expected.concept_tokens, expected.auxiliary_tokens)
