"""Random weights: what is drawn, what is fixed, and that the networks others rely on keep theirs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from workbench import small_checkpoint
from workbench.layouts import ONE_LEVEL
from workbench.tiny import tiny
from workbench.weights import fill, reset


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(float("nan")))
        self.embedding = torch.nn.Embedding(50, 40)
        self.layer = torch.nn.Linear(40, 60)


def test_values_have_the_size_that_is_told() -> None:
    network = Network()
    network.requires_grad_(False)
    fill(network, torch.Generator().manual_seed(0), embedding=0.5, fixed={"scale": 2.0})
    assert network.scale == 2.0 and network.embedding.weight.std() == pytest.approx(0.5, rel=0.1)
    assert network.layer.weight.std() == pytest.approx(40**-0.5, rel=0.1) and network.layer.bias.abs().max() < 0.1


def test_what_is_fixed_takes_nothing_from_the_generator() -> None:
    one, other = Network(), torch.nn.ModuleDict({"embedding": torch.nn.Embedding(50, 40)})
    for network in (one, other):
        fill(network, torch.Generator().manual_seed(3), fixed={"scale": 1.0})
    assert torch.equal(one.embedding.weight, other["embedding"].weight)


def test_layers_are_reset_as_torch_makes_them() -> None:
    torch.manual_seed(5)
    made = torch.nn.Linear(4, 4)
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 4, 4)
    torch.manual_seed(5)
    reset(torch.nn.Sequential(layer))
    assert torch.equal(layer.weight, made.weight) and torch.equal(layer.bias, made.bias)


@pytest.mark.parametrize(("family", "known"), [("sd1", "03a29f79754ef068"), ("sdxl", "ec3bb00a5f5587eb")])
def test_tiny_models_keep_their_weights(family: str, known: str) -> None:
    """Tests compare with numbers that were made on these."""
    digest = hashlib.sha256()
    for name, value in sorted(tiny(family).model.model.state_dict().items()):
        digest.update(name.encode() + str(value.dtype).encode() + value.float().cpu().numpy().tobytes())
    assert digest.hexdigest()[:16] == known


def test_a_small_checkpoint_has_the_layers_of_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_checkpoint, "ONE_LEVEL", {**ONE_LEVEL, "model_channels": 32, "context_dim": 64})
    small_checkpoint.make_checkpoint(tmp_path / "one.safetensors", full=False)
    tensors = load_file(tmp_path / "one.safetensors")
    keys = [name for name in tensors if name.endswith("attn2.to_k.weight")]
    assert len(keys) == 4 and {tuple(tensors[name].shape) for name in keys} == {(32, 64)}
    assert tensors["first_stage_model.vae_scale"] == 1.0
