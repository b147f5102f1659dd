"""The model file: what is written of a trained model, what is refused, and how far its weights are off."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from comfyui_dci.dci_core.int8 import decompress
from comfyui_dci.dci_core.tensor_file import read_tensors
from comfyui_dci.nodes.host.demo_model import MODEL_FILE
from safetensors.torch import save_file
from torch import Tensor

from demo_world.commands import export_model, measure_storage
from demo_world.commands.evaluate import Sampler
from demo_world.commands.export_model import CONFIGURATIONS, write_release
from demo_world.commands.measure_storage import picture_differences, rounded, weight_error

UNET, TEXT, CODER = export_model.PARTS


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"{UNET}out.weight": torch.randn((64, 100), generator=generator),
        f"{UNET}out.bias": torch.randn(64, generator=generator),
        f"{TEXT}embedding.weight": torch.randn((3, 8), generator=generator),
        f"{CODER}conv.weight": torch.randn((16, 40, 3, 3), generator=generator),
        "text_token_ids": torch.tensor([5, 6, 9], dtype=torch.int32),
    }


@pytest.fixture
def metadata() -> dict[str, str]:
    return {"format": "pt", "modelspec.title": "a training", **{name: f'"{name}"' for name in CONFIGURATIONS}}


def test_the_file_holds_the_model_as_int8_and_what_the_source_says_of_it(
    tensors: dict[str, Tensor], metadata: dict[str, str], tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "trained.safetensors", metadata)
    size = write_release(tmp_path / "trained.safetensors", tmp_path / "shipped.safetensors", steps=4004)
    assert size == (tmp_path / "shipped.safetensors").stat().st_size
    stored, facts = read_tensors(tmp_path / "shipped.safetensors")
    assert [name for name, tensor in stored.items() if tensor.dtype == torch.int8] == [
        f"{CODER}conv.weight",
        f"{UNET}out.weight",
    ]
    assert torch.equal(stored["text_token_ids"], tensors["text_token_ids"])
    assert {name: facts[name] for name in CONFIGURATIONS} == {name: metadata[name] for name in CONFIGURATIONS}
    assert facts["training_steps"] == "4004" and facts["storage"] == "int8"
    assert facts["modelspec.title"] == "DCI demo model" and facts["modelspec.resolution"] == "256x256"
    assert weight_error(tensors, decompress(stored, torch.float32)).largest < 0.01


def test_the_same_source_gives_the_same_bytes_and_may_say_its_steps_itself(
    tensors: dict[str, Tensor], metadata: dict[str, str], tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "trained.safetensors", {**metadata, "training_steps": "900"})
    for name in ("one", "other"):
        write_release(tmp_path / "trained.safetensors", tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert read_tensors(tmp_path / "one")[1]["training_steps"] == "900"


@pytest.mark.parametrize(
    ("lost", "added", "told"),
    [
        (f"{CODER}conv.weight", None, rf"lacks \['{CODER}'\]"),
        ("text_token_ids", None, r"lacks \['text_token_ids'\]"),
        ("preview", None, r"lacks \['preview'\]"),
        (None, "optimizer.step", r"has \['optimizer.step'\]"),
        (None, f"{UNET}extra.weight_scale", "extra.weight_scale is int8 or named as a scale"),
    ],
)
def test_what_is_no_demo_model_is_refused(
    lost: str | None, added: str | None, told: str, tensors: dict[str, Tensor], metadata: dict[str, str], tmp_path: Path
) -> None:
    kept = {name: tensor for name, tensor in tensors.items() if name != lost}
    extra = {} if added is None else {added: torch.ones(3)}
    facts = {name: value for name, value in metadata.items() if name != lost}
    save_file({**kept, **extra}, tmp_path / "trained.safetensors", facts)
    with pytest.raises(ValueError, match=told):
        write_release(tmp_path / "trained.safetensors", tmp_path / "shipped.safetensors", steps=1)
    assert not (tmp_path / "shipped.safetensors").exists()


def test_a_model_without_steps_or_too_large_is_refused(
    tensors: dict[str, Tensor], metadata: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(tensors, tmp_path / "trained.safetensors", metadata)
    with pytest.raises(ValueError, match="--training-steps"):
        write_release(tmp_path / "trained.safetensors", tmp_path / "shipped.safetensors")
    monkeypatch.setattr(export_model, "LARGEST_BYTES", 12_000)
    with pytest.raises(ValueError, match="at most 12000 may go into the repository"):
        write_release(tmp_path / "trained.safetensors", tmp_path / "shipped.safetensors", steps=1)
    assert not (tmp_path / "shipped.safetensors").exists()


def test_the_error_of_weights_by_hand() -> None:
    """Squares of the errors: 0.25 of 25 in the worse tensor, 0.25 of 100 in the other, and 1 of 1 in the bias."""
    trained = {"worse": torch.tensor([[3.0, 4.0]]), "other": torch.tensor([[6.0], [8.0]]), "bias": torch.ones(1)}
    stored = {"worse": torch.tensor([[3.0, 4.5]]), "other": torch.tensor([[6.5], [8.0]]), "bias": torch.zeros(1)}
    error = weight_error(trained, stored)
    assert error.where == "worse" and error.largest == pytest.approx(0.1)
    assert error.mean == pytest.approx((1.5 / 126) ** 0.5)
    with pytest.raises(ValueError, match="'bias'"):
        weight_error(trained, {name: stored[name] for name in ("worse", "other")})


def test_tensors_are_rounded_and_keep_their_type() -> None:
    found = rounded({"weight": torch.tensor([1.0 + 2.0**-12]), "ids": torch.tensor([70001])}, torch.float16)
    assert found["weight"].dtype == torch.float32 and found["weight"].item() == 1.0
    assert found["ids"].item() == 70001


def test_pictures_of_the_same_weights_do_not_differ_and_those_of_other_noise_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure_storage, "Sampler", partial(Sampler, steps=1))
    stored, facts = read_tensors(MODEL_FILE)
    shipped = decompress(stored)
    found = picture_differences(shipped, shipped, facts, ["photo of a cat"])
    assert found["int8"].tolist() == found["float16"].tolist() == [0.0]
    assert 0.0 < found["bfloat16"].max() < found["as trained, other noise"].min() < 255.0


def test_no_pictures_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["measure_storage", "--from", "nothing.safetensors", "--count", "0"])
    with pytest.raises(SystemExit):
        measure_storage.main()
    assert "--count: must be an integer of 1 or more, but is '0'" in capsys.readouterr().err
