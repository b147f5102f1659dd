"""Low-rank factors, and concept files that hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo
from comfyui_dci.dci_core.concept.file import load_concept, save_concept
from comfyui_dci.dci_core.concept.low_rank import low_rank_factors, relative_error
from comfyui_dci.dci_core.errors import UserInputError
from safetensors.torch import load_file

LAYER = "diffusion_model.middle_block.1.transformer_blocks.0.attn2"


def concept(rank: int | None) -> Concept:
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    deltas = {
        f"{LAYER}.to_{kind}": draw(96, 64) / 50 if rank is None else draw(96, rank) @ draw(rank, 64) / 50
        for kind in "kv"
    }
    return Concept(deltas, {"clip_l": draw(2, 8)}, ConceptInfo("sd1", "cat", "V*", 1, 1, 2, 5, 0, ""))


@pytest.mark.parametrize("shape", [(40, 24), (24, 40)])
def test_factors_are_as_near_as_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(matrix)
    for rank in (1, 5, 24, 100):
        up, down = low_rank_factors(matrix, rank)
        assert up.shape == (shape[0], min(rank, 24)) and down.shape == (min(rank, 24), shape[1])
        best = values[rank:].square().sum().sqrt()
        assert (matrix - up @ down).norm() <= 1.02 * best + 1e-4


def test_a_matrix_of_that_rank_is_kept_and_zero_stays_zero() -> None:
    deltas = concept(3).deltas
    for delta in deltas.values():
        up, down = low_rank_factors(delta, 3)
        torch.testing.assert_close(up @ down, delta, atol=1e-6, rtol=1e-5)
    up, down = low_rank_factors(torch.zeros(6, 4), 2)
    assert not (up @ down).any()


def test_factors_leave_the_global_random_state_alone_and_repeat() -> None:
    state, matrix = torch.get_rng_state(), torch.ones(5, 4)
    assert torch.equal(low_rank_factors(matrix, 2)[0], low_rank_factors(matrix, 2)[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_relative_error_by_hand() -> None:
    given, stored = (
        {"a": torch.tensor([[3.0]]), "b": torch.tensor([[4.0]])},
        {"a": torch.tensor([[3.0]]), "b": torch.zeros(1, 1)},
    )
    assert relative_error(given, stored) == pytest.approx(0.8)
    assert relative_error({}, {}) == 0.0


def test_a_low_rank_file_is_small_says_its_error_and_loads(tmp_path: Path) -> None:
    whole = concept(None)
    assert save_concept(whole, tmp_path / "whole.safetensors", "float32") == 0.0
    error = save_concept(whole, tmp_path / "small.safetensors", "float32", rank=8)
    assert (tmp_path / "small.safetensors").stat().st_size < 0.4 * (tmp_path / "whole.safetensors").stat().st_size
    read = load_concept(tmp_path / "small.safetensors")
    assert read.info == whole.info and set(read.deltas) == set(whole.deltas)
    assert error == pytest.approx(relative_error(whole.deltas, read.deltas), rel=1e-6)
    assert 0.1 < error < 1.0
    assert set(load_file(tmp_path / "small.safetensors")) == {"clip_l"} | {
        f"{LAYER}.to_{kind}.lora_{part}.weight" for kind in "kv" for part in ("up", "down")
    }


def test_a_concept_trained_at_a_rank_loses_nothing_at_that_rank(tmp_path: Path) -> None:
    low = concept(4)
    assert save_concept(low, tmp_path / "a.safetensors", "float32", rank=4) < 1e-5
    assert save_concept(low, tmp_path / "a.safetensors", "float16", rank=4) < 2e-3  # half precision's rounding


@pytest.mark.parametrize("change", ["missing", "shape", "twice"])
def test_wrong_factors_are_refused_by_name(tmp_path: Path, change: str) -> None:
    from comfyui_dci.dci_core.concept.metadata import COVERED
    from comfyui_dci.dci_core.tensor_file import HASH_KEY, read_tensors, write_tensors

    path = tmp_path / "a.safetensors"
    save_concept(concept(2), path, rank=2)
    tensors, metadata = read_tensors(path)
    del metadata[HASH_KEY]
    name = f"{LAYER}.to_k.lora_up.weight"
    if change == "missing":
        del tensors[name]
    elif change == "shape":
        tensors[name] = tensors[name][:, :1].contiguous()
    else:
        tensors[f"{LAYER}.to_k.diff"] = torch.zeros(96, 64)
    write_tensors(path, tensors, metadata, COVERED)
    with pytest.raises(UserInputError, match=f"{LAYER}.to_k.*has no matching|changes {LAYER}.to_k twice"):
        load_concept(path)
