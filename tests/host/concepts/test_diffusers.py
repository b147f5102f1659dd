"""What diffusers itself makes of the exported files, in an environment that has it.

It is not among the requirements of the tests: `pip install --no-deps diffusers peft accelerate` brings it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.diffusers_layout import DIFFUSERS, diffusers_layout, needed_weights
from comfyui_dci.dci_core.concept.exchange import Exported, lora_and_embedding
from comfyui_dci.dci_core.concept.foreign import foreign_concept
from comfyui_dci.dci_core.concept.layer_names import diffusers_name, family_named
from comfyui_dci.nodes.host.weights import unpatched_weights
from diffusers_pipelines import answer, pipeline_of
from safetensors.torch import load_file
from scenes import Scene, relative_difference, scene

diffusers = pytest.importorskip("diffusers")
FAMILIES = ["sd1", "sd2", "sdxl"]


def changed(pipe: Any, concept: Concept) -> torch.Tensor:
    """What its network predicts with the concept's changes added to its weights."""
    weights = pipe.unet.state_dict()
    family = family_named(concept.info.family)
    added = {f"{diffusers_name(name, family)}.weight": delta for name, delta in concept.deltas.items()}
    pipe.unet.load_state_dict({name: weight + added.get(name, 0) for name, weight in weights.items()})
    return answer(pipe.unet)


def written(exported: Exported, folder: Path) -> list[Path]:
    paths = [folder / f"{file.folder}{file.ending}" for file in exported.files]
    for file, path in zip(exported.files, paths):
        file.write(path, "tom", replace=False)
    return paths


def layout_of(s: Scene) -> Exported:
    return diffusers_layout(s.concept, unpatched_weights(s.base.model, needed_weights(s.concept)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lora_changes_diffusers_network_as_the_concept_does(family: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    s = scene(family)
    lora, _ = written(lora_and_embedding(s.concept, "float32"), tmp_path)
    expected = changed(pipeline_of(s.base, family), s.concept)
    pipe = pipeline_of(s.base, family)
    plain = answer(pipe.unet)
    pipe.load_lora_weights(str(tmp_path), weight_name=lora.name)
    assert relative_difference(answer(pipe.unet), expected) < 1e-5 < relative_difference(plain, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_custom_diffusion_s_loader_gives_the_network_the_concept_s_weights(family: str, tmp_path: Path) -> None:
    s = scene(family)
    weights, _ = written(layout_of(s), tmp_path)
    expected = changed(pipeline_of(s.base, family), s.concept)
    pipe = pipeline_of(s.base, family)
    plain = answer(pipe.unet)
    pipe.unet.load_attn_procs(str(weights.parent), weight_name=weights.name, _pipeline=pipe)
    assert relative_difference(answer(pipe.unet), expected) < 1e-5 < relative_difference(plain, expected)


def test_all_cross_attention_weights_come_with_the_bias_of_the_output(tmp_path: Path) -> None:
    s = scene("sd1")
    others = {
        name.replace("to_k", kind): 0.01 * torch.ones(len(delta), len(delta))
        for name, delta in s.concept.deltas.items()
        for kind in ("to_q", "to_out.0")
        if name.endswith("to_k")
    }
    concept = Concept({**s.concept.deltas, **others}, s.concept.tokens, s.concept.info)
    exported = diffusers_layout(concept, unpatched_weights(s.base.model, needed_weights(concept)))
    weights, _ = written(exported, tmp_path)
    expected = changed(pipeline_of(s.base, "sd1"), concept)
    pipe = pipeline_of(s.base, "sd1")
    pipe.unet.load_attn_procs(str(weights.parent), weight_name=weights.name, _pipeline=pipe)
    assert relative_difference(answer(pipe.unet), expected) < 1e-5


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_diffusers_saves_of_custom_diffusion_is_imported(family: str, safe: bool, tmp_path: Path) -> None:
    s = scene(family)
    pipe = pipeline_of(s.base, family)
    (weights, _), file = written(layout_of(s), tmp_path), tmp_path / f"theirs.{'safetensors' if safe else 'bin'}"
    pipe.unet.load_attn_procs(str(weights.parent), weight_name=weights.name, _pipeline=pipe)
    pipe.unet.save_attn_procs(str(tmp_path), weight_name=file.name, safe_serialization=safe)
    found = foreign_concept(file, family_named(family))
    assert found.weights.keys() == s.concept.deltas.keys() and not found.words
    base = unpatched_weights(s.base.model, [f"{name}.weight" for name in found.weights])
    for name, weight in found.weights.items():
        assert torch.equal(weight, base[f"{name}.weight"] + s.concept.deltas[name])


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_the_folder_s_vectors_are_found_and_called_by_the_placeholder(family: str, tmp_path: Path) -> None:
    s = scene(family)
    written(layout_of(s), tmp_path)
    pipe = pipeline_of(s.base, family)
    pipe.load_textual_inversion(str(tmp_path / DIFFUSERS))
    assert_reads(pipe.tokenizer, pipe.text_encoder, pipe.maybe_convert_prompt("a v* cat", pipe.tokenizer), s)


def test_the_embedding_of_sdxl_is_loaded_half_by_half(tmp_path: Path) -> None:
    s = scene("sdxl")
    _, embedding = written(lora_and_embedding(s.concept), tmp_path)
    pipe, state = pipeline_of(s.base, "sdxl"), load_file(embedding)
    for name, tokenizer, encoder in (
        ("clip_l", pipe.tokenizer, pipe.text_encoder),
        ("clip_g", pipe.tokenizer_2, pipe.text_encoder_2),
    ):
        pipe.load_textual_inversion(state[name], token="v*", tokenizer=tokenizer, text_encoder=encoder)
        assert_reads(tokenizer, encoder, pipe.maybe_convert_prompt("a v* cat", tokenizer), s, name)


def assert_reads(tokenizer: Any, encoder: Any, prompt: str, s: Scene, name: str = "") -> None:
    """The prompt's tokens are start, "a", the concept's vectors bit for bit, "cat", end."""
    ids = tokenizer(prompt)["input_ids"]
    rows = encoder.get_input_embeddings().weight[ids]
    assert torch.equal(rows[2:-2], s.concept.tokens[name or next(iter(s.concept.tokens))])
    assert ids[-2] == tokenizer("cat")["input_ids"][1] and len(ids) == 7
