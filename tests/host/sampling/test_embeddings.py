"""A concept named by its file: "embedding:my_concept cat" with the plain CLIP of a saved checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.file import save_concept
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.aux_prompt_builder import AuxPromptBuilder
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.sampling.conditioning import CARRIED_KEY, BuiltConditioning, build_conditioning
from comfyui_dci.nodes.host.tokenizer import tokenizers_of
from node_runs import run
from safetensors.torch import save_file
from scenes import Scene, encode, random_concept, scene


@pytest.fixture
def embeddings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of embeddings of every scene's CLIPs."""
    folder = tmp_path / "embeddings"
    folder.mkdir()
    for family in ("sd1", "sdxl"):
        for clip in (scene(family).base.clip, scene(family).clip):
            for tokenizer in tokenizers_of(clip).values():
                monkeypatch.setattr(tokenizer, "embedding_directory", [str(folder)])
    return folder


@torch.inference_mode()
def built(clip: Any, prompt: str, **options: Any) -> BuiltConditioning:
    return build_conditioning(clip, prompt, **{"auxiliary_noun": "dog", **options})


def assert_same(ours: BuiltConditioning, theirs: BuiltConditioning) -> None:
    """Both branches are bit for bit the same, and so are the token sets."""
    (text, options), (other, other_options) = ours.conditioning[0], theirs.conditioning[0]
    mine, its = options[CARRIED_KEY], other_options[CARRIED_KEY]
    assert torch.equal(text, other) and torch.equal(options["pooled_output"], other_options["pooled_output"])
    assert torch.equal(mine.cross_attn, its.cross_attn) and torch.equal(mine.pooled_output, its.pooled_output)
    assert (mine.concept_tokens, mine.auxiliary_tokens) == (its.concept_tokens, its.auxiliary_tokens)


def named(s: Scene, folder: Path, name: str = "my_concept") -> Path:
    save_concept(s.concept, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize(
    "prompt",
    [
        "a {} cat in times square, at night",
        "a ({}:1.2) red cat on (grass:0.7)",
        "two {} cats",
        "a {0} cat's hat, {0} cats! and {0} cat-dog",
        "a {} cat.",
        "{} in snow",
        "many things, " * 30 + "and a {} cat",
    ],
)
def test_the_result_is_that_of_apply_concept(embeddings: Path, family: str, prompt: str) -> None:
    s = scene(family)
    named(s, embeddings)
    theirs = built(s.clip, prompt.format("V*"))
    ours = built(s.base.clip, prompt.format("embedding:my_concept"))
    assert_same(ours, theirs)
    assert ours.concept_text == theirs.concept_text.replace("V*", "embedding:my_concept")
    assert ours.auxiliary_text == theirs.auxiliary_text
    assert ours.remarks() == [text.replace("V*", "embedding:my_concept") for text in theirs.remarks()]


def test_the_stock_encode_of_the_text_that_comes_out_is_the_same(embeddings: Path) -> None:
    s = scene("sd1")
    named(s, embeddings)
    ours = built(s.base.clip, "a embedding:my_concept in snow")
    assert ours.concept_text == "a embedding:my_concept cat in snow"
    assert torch.equal(encode(s.base.clip, ours.concept_text)[0][0], ours.conditioning[0][0])


def test_a_file_in_a_subfolder_under_another_name_and_with_its_ending_is_found(embeddings: Path) -> None:
    s = scene("sd1")
    (embeddings / "pets").mkdir()
    named(s, embeddings / "pets", "tom")
    theirs = built(s.clip, "a V* cat in snow")
    for name in ("tom", "tom.safetensors", "pets/tom"):
        assert_same(built(s.base.clip, f"a embedding:{name} cat in snow"), theirs)


def test_another_embedding_takes_the_class_noun_that_is_given(embeddings: Path) -> None:
    s = scene("sd1")
    save_file({"emb_params": s.concept.tokens["clip_l"].contiguous()}, embeddings / "tom.safetensors")
    prompt = "a embedding:tom red cat in snow"
    with pytest.raises(UserInputError, match="knows no concept.*Or fill in class_noun"):
        built(s.base.clip, prompt)
    ours = built(s.base.clip, prompt, class_noun=" a cat ")
    assert_same(ours, built(s.clip, "a V* red cat in snow"))
    assert ours.remarks() == []
    assert run(AuxPromptBuilder, clip=s.base.clip, prompt=prompt, class_noun="cat", auxiliary_noun="dog")[2] == (
        "a red dog in snow"
    )


def test_a_style_beside_a_concept_file_stays_what_it_is(embeddings: Path) -> None:
    s = scene("sd1")
    named(s, embeddings)
    save_file({"emb_params": torch.randn(2, 64)}, embeddings / "style.safetensors")
    ours = built(s.base.clip, "a embedding:my_concept cat, embedding:style", class_noun="dog")
    assert_same(ours, built(s.clip, "a V* cat, embedding:style"))
    assert ours.remarks() == ["class_noun 'dog' is not used: the concept has its own"]


def test_what_looks_like_the_name_within_stays_a_word(embeddings: Path) -> None:
    s = scene("sd1")
    named(s, embeddings)
    ours = built(s.base.clip, "a embedding:my_concept cat and (E1*:1.2)")
    assert_same(ours, built(s.clip, "a V* cat and (E1*:1.2)"))
    assert ours.auxiliary_text == "a dog and (E1*:1.2)"


def test_a_prompt_with_v_star_reads_files_as_the_host_does(embeddings: Path) -> None:
    s = scene("sd1")
    named(s, embeddings)
    prompt = "a V* cat and embedding:my_concept dog"
    before = encode(s.clip, prompt)[0][0]
    result = built(s.clip, prompt)
    assert torch.equal(result.conditioning[0][0], before)
    assert result.auxiliary_text == "a dog and embedding:my_concept dog"


@pytest.mark.parametrize("subject", ["embedding:my_concept", "embedding:my_concept cat"])
@pytest.mark.parametrize("prompt", ["a embedding:my_concept cat in snow", "a embedding:my_concept red cat in snow"])
def test_a_concept_file_as_the_subject_is_what_it_is_without(embeddings: Path, prompt: str, subject: str) -> None:
    s = scene("sd1")
    named(s, embeddings)
    ours, theirs = built(s.base.clip, prompt, subject=subject), built(s.base.clip, prompt)
    assert_same(ours, theirs)
    assert ours.remarks() == theirs.remarks() == []
    for noun, given in (("cat", ""), ("cat", "kitten"), ("kitten", "kitten")):
        with pytest.raises(UserInputError, match="own class noun"):
            built(s.base.clip, prompt, subject=subject, auxiliary_noun=noun, class_noun=given)


def test_names_of_concepts_alone_are_completed_with_their_nouns(embeddings: Path) -> None:
    s = scene("sd1")
    named(s, embeddings)
    assert_same(built(s.clip, "a V* in snow", subject="V*"), built(s.clip, "a V* in snow"))
    several = built(s.clip, "a embedding:my_concept beside V*", subject="embedding:my_concept, V*")
    assert several.concept_text == "a embedding:my_concept cat beside V* cat"
    assert several.auxiliary_text == "a dog beside dog"
    with pytest.raises(UserInputError, match="does not contain the subject.*An embedding has a space"):
        built(s.base.clip, "a embedding:my_concept in snow", subject="embedding:my_concept cat")


def test_the_ablation_leaves_no_concept_in_the_rest(embeddings: Path) -> None:
    s = scene("sd1")
    named(s, embeddings)
    for options in ({}, {"subject": "embedding:my_concept"}):
        assert built(s.base.clip, "a embedding:my_concept cat.", entire_prompt=False, **options).auxiliary_text == "a."


def test_another_file_whose_name_begins_alike_is_told_nothing_of(embeddings: Path) -> None:
    s = scene("sd1")
    named(s, embeddings)
    for name in ("my_concept_v2", "my_concept-style"):
        save_file({"emb_params": torch.randn(2, 64)}, embeddings / f"{name}.safetensors")
        assert built(s.base.clip, f"a embedding:my_concept cat, embedding:{name}").remarks() == []


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("embedding:missing cat", "There is no embedding 'missing' in models/embeddings"),
        ("embedding: cat", "Write the name of the embedding directly behind the colon"),
        ("embedding:wide cat", "wide for clip_l are 32 wide, this CLIP has {'clip_l': 64}"),
    ],
)
def test_a_subject_of_an_embedding_that_the_host_would_drop_is_refused(
    embeddings: Path, subject: str, message: str
) -> None:
    save_file({"emb_params": torch.randn(2, 32)}, embeddings / "wide.safetensors")
    with pytest.raises(UserInputError, match=message):
        built(scene("sd1").base.clip, f"a {subject} in snow", subject=subject)


def test_two_concept_files_have_each_their_noun(embeddings: Path) -> None:
    s = scene("sd1")
    named(s, embeddings)
    other = random_concept(s.base, seed=8, class_noun="coffee mug", placeholder="W*")
    save_concept(other, embeddings / "mug.safetensors")
    with torch.inference_mode():
        _, both = apply_concept(s.base.model, s.clip, other)
    ours = built(s.base.clip, "a embedding:my_concept cat with a embedding:mug", auxiliary_noun="dog, ball")
    assert_same(ours, built(both, "a V* cat with a W*", auxiliary_noun="dog, ball"))


@pytest.mark.parametrize(
    ("prompt", "class_noun", "message"),
    [
        (
            "a embedding:my_concept.",
            "",
            "knows no concept. Connect.*There is no embedding 'my_concept.'.*with a space behind",
        ),
        ("a [embedding:my_concept cat]", "", 'knows no concept. Connect.*write "embedding:" with a space in front'),
        ("a embedding:missing cat", "cat", "There is no embedding 'missing' in models/embeddings.*with a space behind"),
        ("a embedding:one and embedding:two", "cat", "names the embeddings one and two.*Name one"),
        ("a embedding:wide cat", "cat", "wide for clip_l are 32 wide, this CLIP has {'clip_l': 64}"),
        ("a embedding:big cat", "", "embedding:big was trained on a sdxl model, this CLIP has the text encoders"),
        ("embedding:my_concept cat", "", "Nothing is left of the prompt 'embedding:my_concept cat'"),
        ("a embedding:one cat", "the", "The class noun 'the' cannot be used"),
    ],
)
def test_files_that_cannot_be_used_are_refused(embeddings: Path, prompt: str, class_noun: str, message: str) -> None:
    named(scene("sd1"), embeddings)
    named(scene("sdxl"), embeddings, "big")
    for name, width in (("one", 64), ("two", 64), ("wide", 32)):
        save_file({"emb_params": torch.randn(2, width)}, embeddings / f"{name}.safetensors")
    with pytest.raises(UserInputError, match=message):
        built(scene("sd1").base.clip, prompt, class_noun=class_noun, entire_prompt="Nothing" not in message)
