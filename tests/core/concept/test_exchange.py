"""A concept for other programs: what their files hold, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.diffusers_layout import diffusers_layout, needed_weights
from comfyui_dci.dci_core.concept.exchange import full_factors, lora_and_embedding
from comfyui_dci.dci_core.errors import UserInputError
from concept_files import contents, small_concept
from torch import Tensor

LAYER = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2"
SD1_NAME = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_"
XL_NAMES = ("input_blocks_1_1", "middle_block_1")


def one_layer(delta: Tensor) -> Concept:
    """An SD1 concept with the same change of one layer's K and V."""
    xl = small_concept()
    info = replace(xl.info, family="sd1", placeholder="<My-Tortoise>", thumbnail="data:image/jpeg;base64,AA==")
    return Concept({f"{LAYER}.to_k": delta, f"{LAYER}.to_v": delta}, {"clip_l": xl.tokens["clip_l"]}, info)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (2, 2)])
def test_factors_of_full_rank_give_the_matrix_back_to_the_last_bit(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-7 + 1
    up, down = full_factors(matrix)
    assert torch.equal(up @ down, matrix) and up.shape == (shape[0], 2) and down.shape == (2, shape[1])


def test_a_whole_change_is_in_the_lora_as_it_is() -> None:
    exported = lora_and_embedding(one_layer(torch.tensor([[0.5, 0.25, 1.0], [2.0, 0.0, -4.0]])), "float16")
    lora, embedding = exported.files
    assert exported.error == 0.0 and (lora.folder, embedding.folder) == ("loras", "embeddings")
    assert sorted(lora.tensors) == sorted(
        f"{SD1_NAME}{kind}.{part}" for kind in "kv" for part in ("alpha", "lora_down.weight", "lora_up.weight")
    )
    assert lora.tensors[f"{SD1_NAME}k.lora_up.weight"].tolist() == [[1, 0], [0, 1]]
    assert lora.tensors[f"{SD1_NAME}k.lora_down.weight"].tolist() == [[0.5, 0.25, 1.0], [2.0, 0.0, -4.0]]
    assert lora.tensors[f"{SD1_NAME}v.lora_down.weight"].dtype == torch.float16
    assert lora.tensors[f"{SD1_NAME}v.alpha"].item() == 2.0  # the rank: the change counts once
    assert lora.metadata["ss_network_dim"] == "2"
    assert lora.size == 2 * (2 * 4 + 2 * 6 + 4)


def test_layers_of_all_shapes_have_one_rank_and_one_alpha() -> None:
    concept = small_concept()
    wide = {f"{LAYER}.to_{kind}": torch.arange(12.0).reshape(2, 6) for kind in "kv"}
    for rank, expected in ((0, 4), (3, 3)):
        exported = lora_and_embedding(replace(concept, deltas=concept.deltas | wide), "float32", rank)
        factors = exported.files[0].tensors
        assert {tensor.item() for name, tensor in factors.items() if name.endswith(".alpha")} == {expected}
        assert {tensor.shape[1] for name, tensor in factors.items() if name.endswith("_up.weight")} == {expected}
        assert {tensor.shape[0] for name, tensor in factors.items() if name.endswith("_down.weight")} == {expected}
        layer = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
        product = factors[f"{layer}.lora_up.weight"] @ factors[f"{layer}.lora_down.weight"]
        assert torch.allclose(product, wide[f"{LAYER}.to_k"], atol=1e-5) and (exported.error == 0.0) == (rank == 0)


def test_what_a_precision_or_a_rank_loses_is_told() -> None:
    """The change [3, 4] as rank 1 of [[3, 0], [0, 4]] loses 3 of 5."""
    change = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert lora_and_embedding(one_layer(change), "float32", rank=1).error == pytest.approx(0.6)
    assert lora_and_embedding(one_layer(change), "float32", rank=2).error == pytest.approx(0.0, abs=1e-6)
    third = torch.full((2, 2), 1 / 3)
    assert lora_and_embedding(one_layer(third), "float32").error == 0.0
    assert lora_and_embedding(one_layer(third), "float16").error == pytest.approx(
        2.0**-12, rel=0.01
    )  # a third ends in 0101…


def test_with_two_text_encoders_the_lora_keeps_original_names_and_the_embedding_one_key_for_each() -> None:
    lora, embedding = lora_and_embedding(small_concept()).files
    assert {name.partition("_transformer")[0] for name in lora.tensors} == {f"lora_unet_{name}" for name in XL_NAMES}
    assert set(embedding.tensors) == {"clip_l", "clip_g"}
    assert torch.equal(embedding.tensors["clip_g"], small_concept().tokens["clip_g"])
    assert lora.metadata["ss_base_model_version"] == "sdxl_base_v1-0" and lora.metadata["ss_v2"] == "False"


def test_with_one_text_encoder_the_embedding_s_key_is_the_word() -> None:
    concept = one_layer(torch.eye(2))
    (_, embedding) = lora_and_embedding(concept).files
    assert list(embedding.tensors) == ["<my-tortoise>"]
    assert torch.equal(embedding.tensors["<my-tortoise>"], concept.tokens["clip_l"])
    sd2 = replace(concept, info=replace(concept.info, family="sd2"))
    assert lora_and_embedding(sd2).files[0].metadata["ss_v2"] == "True"


def test_a_textual_inversion_is_an_embedding_alone() -> None:
    xl = replace(small_concept(), deltas={})
    for exported in (lora_and_embedding(xl), diffusers_layout(xl, {})):
        (embedding,) = exported.files
        assert exported.error is None and set(embedding.tensors) == {"clip_l", "clip_g"}
        assert embedding.metadata["modelspec.architecture"].endswith("/textual-inversion")


def test_a_file_names_its_word_and_never_shows_a_photograph(tmp_path: Path) -> None:
    concept, path = one_layer(torch.eye(2)), tmp_path / "tom.safetensors"
    (lora, _) = lora_and_embedding(concept).files
    lora.write(path, "tom", replace=False)
    told = contents(path)[1]
    assert told["modelspec.trigger_phrase"] == "tom tortoise plushy"
    assert told["modelspec.architecture"] == "stable-diffusion-v1/lora" and "modelspec.thumbnail" not in told
    with pytest.raises(FileExistsError):
        lora.write(path, "tom", replace=False)
    (silent, _) = lora_and_embedding(concept, told=False).files
    silent.write(path, "tom", replace=True)
    assert not [name for name in contents(path)[1] if name.startswith("modelspec.")]
    assert "tortoise" not in str(contents(path)[1])


def test_values_that_a_precision_cannot_hold_are_refused() -> None:
    with pytest.raises(UserInputError, match="to_k holds values that are not finite in float16. Export in float32"):
        lora_and_embedding(one_layer(torch.full((2, 2), 1e6)))
    with pytest.raises(UserInputError, match="one of float32, float16, bfloat16, but got 'int8'"):
        lora_and_embedding(one_layer(torch.eye(2)), "int8")
    broken = replace(small_concept(), tokens={"clip_l": torch.full((2, 8), torch.nan)})
    with pytest.raises(UserInputError, match="clip_l holds values that are not finite in float32"):
        lora_and_embedding(broken)


def test_diffusers_has_whole_weights_and_an_empty_entry_for_each_self_attention() -> None:
    concept = one_layer(torch.tensor([[0.5, 0.0], [0.0, 0.5]]))
    concept = replace(concept, deltas={**concept.deltas, f"{LAYER}.to_out.0": torch.tensor([[1.0, 0.0], [0.0, 1.0]])})
    assert needed_weights(concept)[2:] == [f"{LAYER}.to_out.0.weight", f"{LAYER}.to_out.0.bias"]
    base = {key: torch.ones(2, 2) for key in needed_weights(concept)} | {
        f"{LAYER}.to_out.0.bias": torch.tensor([7.0, 8])
    }
    exported = diffusers_layout(concept, base)
    weights, vectors = exported.files
    block = "down_blocks.1.attentions.0.transformer_blocks.0"
    assert {name: tensor.tolist() for name, tensor in weights.tensors.items()} == {
        f"{block}.attn1.processor": [],
        f"{block}.attn2.processor.to_k_custom_diffusion.weight": [[1.5, 1.0], [1.0, 1.5]],
        f"{block}.attn2.processor.to_v_custom_diffusion.weight": [[1.5, 1.0], [1.0, 1.5]],
        f"{block}.attn2.processor.to_out_custom_diffusion.0.weight": [[2.0, 1.0], [1.0, 2.0]],
        f"{block}.attn2.processor.to_out_custom_diffusion.0.bias": [7.0, 8.0],
    }
    assert exported.error == 0.0 and list(vectors.tensors) == ["<my-tortoise>"]
    assert (weights.folder, weights.ending) == ("diffusers", "/pytorch_custom_diffusion_weights.safetensors")
    assert vectors.ending == "/learned_embeds.safetensors"
