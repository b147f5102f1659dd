"""The networks of the demo model compute what the host's compute, and their file holds them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.cli_args
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.tensor_file import read_metadata, read_tensors, write_tensors
from comfyui_dci.dci_core.training.ico import CONCEPT_INITIAL_IDS
from comfyui_dci.nodes.host.demo_model import load_model_file
from torch import Tensor

from demo_world.autoencoder import (
    build_autoencoder,
    decode_latents,
    encode_pictures,
    preview_factors,
    whiten_latents,
)
from demo_world.commands import verify_host
from demo_world.commands.export_model import TOKEN_IDS, write_release
from demo_world.commands.verify_host import TOLERANCE, agree, differences
from demo_world.denoiser import CONTEXT_DIM, LATENT_SHAPE, attention, build_unet, predict_noise, signal_and_noise
from demo_world.model import (
    MODEL_FILE,
    DemoModel,
    Networks,
    read_autoencoder,
    read_weights,
    write_autoencoder,
    write_weights,
)
from demo_world.text_encoder import TextEncoder
from demo_world.tokens import END, START, known_ids, row_lookup, tokenize
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES

CAPTION = "drawing of a red turtle with an apple on grass"
PREVIEW = {"latent_rgb_factors": [[0.0] * 3] * 4, "latent_rgb_factors_bias": [0.0] * 3, "taesd_decoder_name": None}

on_the_cpu = pytest.mark.skipif(
    "not comfy.cli_args.args.cpu", reason="the host's networks are on the GPU, in another precision"
)


@pytest.fixture(scope="module")
def shipped() -> Networks:
    return read_weights()


@pytest.fixture(scope="module")
def fresh() -> Networks:
    """New networks; what starts at zero too has weights."""
    torch.manual_seed(0)
    networks = Networks(DemoModel(), build_autoencoder(), PREVIEW, steps=12)
    for parameter in networks.model.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.02)
    networks.model.requires_grad_(False)
    networks.autoencoder.requires_grad_(False)
    return networks


def weights(networks: Networks) -> dict[str, Tensor]:
    return {**networks.model.state_dict(), **{f"ae.{k}": v for k, v in networks.autoencoder.state_dict().items()}}


def test_captions_become_the_tokens_of_the_host() -> None:
    from comfy.sd1_clip import SDTokenizer

    theirs = [token for token, _ in SDTokenizer().tokenize_with_weights(CAPTION)[0]]
    ours = tokenize([CAPTION, ""])
    assert ours[0].tolist() == theirs and ours[1].tolist() == [START] + [END] * 76
    with pytest.raises(ValueError, match="has 80 tokens; at most 75 fit, shorten it"):
        tokenize(["cat " * 80])


def test_known_are_all_words_of_the_world_and_those_that_a_concept_starts_from() -> None:
    assert set(CONCEPT_INITIAL_IDS) <= set(known_ids())
    rows = row_lookup()
    assert (rows[tokenize([*NOUNS, *CONTEXTS, *STYLES, *COLOURS, "a an with"])] >= 0).all()
    assert rows[list(known_ids())].tolist() == list(range(len(known_ids()))) and (rows >= 0).sum() == len(known_ids())


def test_the_shipped_model_knows_these_words() -> None:
    tensors, metadata = read_tensors(MODEL_FILE)
    assert tensors[TOKEN_IDS].tolist() == list(known_ids())
    words = json.loads(metadata["vocabulary"])
    assert words == {
        "nouns": list(NOUNS),
        "contexts": list(CONTEXTS),
        "styles": list(STYLES),
        "colours": list(COLOURS),
    }


def test_attention_by_hand() -> None:
    """The second of two heads looks at its second key only, the first at both alike."""
    q = torch.tensor([[[0.0, 100.0]]])
    k, v = torch.tensor([[[0.0, -1.0], [0.0, 1.0]]]), torch.tensor([[[2.0, 5.0], [4.0, 7.0]]])
    assert torch.allclose(attention(None, q, k, v, 2), torch.tensor([[[3.0, 7.0]]]))


def test_the_unet_computes_what_the_host_computes_and_learns(fresh: Networks) -> None:
    noisy, steps = torch.randn(2, *LATENT_SHAPE), torch.tensor([10.0, 900.0])
    context = torch.randn(2, 77, CONTEXT_DIM, requires_grad=True)
    expected = fresh.model.unet(noisy, steps, context.detach(), transformer_options={})
    found = predict_noise(fresh.model.unet, noisy, steps, context)
    assert expected.abs().max() > 0.01
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
    found.square().mean().backward()
    assert context.grad is not None and context.grad.abs().max() > 0


def test_a_new_unet_predicts_next_to_nothing() -> None:
    with torch.no_grad():
        found = predict_noise(
            build_unet(), torch.randn(1, *LATENT_SHAPE), torch.tensor([5.0]), torch.randn(1, 77, CONTEXT_DIM)
        )
    assert found.abs().max() < 0.1


def test_the_noise_schedule_is_the_hosts() -> None:
    from comfy.model_sampling import ModelSamplingDiscrete

    signal, noise = signal_and_noise()
    assert torch.allclose(noise / signal, ModelSamplingDiscrete().sigmas, rtol=1e-4)


def test_the_text_encoder_reads_words_not_padding() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder()
    with torch.no_grad():
        whole, cut = encoder(tokenize(["a cat on grass"])), encoder(tokenize(["a cat on grass"])[:, :6])
        other = encoder(tokenize(["a dog on grass"]))
    assert torch.allclose(whole[:, :6], cut, atol=1e-6)
    assert torch.equal(whole[:, :2], other[:, :2]) and not torch.equal(whole[:, 2], other[:, 2])


def test_whitened_latents_have_unit_deviation_and_decode_to_the_same_picture() -> None:
    torch.manual_seed(0)
    model = build_autoencoder().requires_grad_(False)
    pictures = torch.rand(4, 3, 64, 64)
    before = decode_latents(model, encode_pictures(model, pictures))
    whiten_latents(model, pictures)
    latents = encode_pictures(model, pictures)
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4)
    spread = torch.linalg.eigvalsh(torch.cov(latents.movedim(1, 0).flatten(1)))
    assert 0.99 < spread.max() < 1.01 and spread.min() > 0
    assert torch.allclose(before, decode_latents(model, latents), atol=1e-4)
    assert before.std() > 1e-3


def test_preview_factors_give_the_colours_back() -> None:
    """An encoder whose latents are an affine map of the picture's colours: least squares finds the inverse."""
    mixing = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0], [2.0, 0.0, 1.0], [1.0, 1.0, 1.0]])

    class Affine(torch.nn.Module):
        encoder = torch.nn.AvgPool2d(8)

        def quant_conv(self, colours: Tensor) -> Tensor:
            means = torch.einsum("zc,bchw->bzhw", mixing, colours) + 0.5
            return torch.cat([means, torch.zeros_like(means)], dim=1)

    pictures = torch.rand(6, 3, 32, 32)
    found = preview_factors(Affine(), pictures)
    latents, factors = encode_pictures(Affine(), pictures), torch.tensor(found["latent_rgb_factors"])
    colours = torch.einsum("bzhw,zc->bchw", latents, factors)
    colours += torch.tensor(found["latent_rgb_factors_bias"])[:, None, None]
    expected = torch.nn.functional.avg_pool2d(pictures * 2.0 - 1.0, 8)
    assert torch.allclose(colours, expected, atol=2e-3)  # the factors have four decimals


@on_the_cpu
def test_the_host_computes_the_same_with_the_shipped_file(shipped: Networks) -> None:
    found = differences(shipped, load_model_file(MODEL_FILE))
    assert list(found) == ["text encoder", "UNet", "decoder"] and agree(found)


@pytest.mark.parametrize("difference", [2 * TOLERANCE, float("nan")])
def test_a_host_that_computes_something_else_is_told(difference: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["verify_host"])
    monkeypatch.setattr(verify_host, "load_pack", lambda cpu: None)  # on a GPU it would send later tests to the CPU
    monkeypatch.setattr(verify_host, "differences", lambda networks, models: {"text": 0.0, "UNet": difference})
    with pytest.raises(SystemExit, match="above 0.0001, or no number.*Export the model again"):
        verify_host.main()
    monkeypatch.setattr(verify_host, "differences", lambda networks, models: {"text": 0.0, "UNet": TOLERANCE})
    verify_host.main()


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 0.0), (torch.float16, 1e-3)])
def test_a_model_file_gives_the_networks_back(
    fresh: Networks, tmp_path: Path, dtype: torch.dtype, error: float
) -> None:
    write_weights(file := tmp_path / "model.safetensors", fresh, dtype)
    found = read_weights(file)
    assert found.steps == 12 and found.preview == PREVIEW
    assert not any(p.requires_grad for p in (*found.model.parameters(), *found.autoencoder.parameters()))
    expected = weights(fresh)
    assert all(torch.allclose(value, expected[name], rtol=error, atol=error) for name, value in weights(found).items())


def test_the_exporter_and_the_node_take_a_model_file(fresh: Networks, tmp_path: Path) -> None:
    trained, small = tmp_path / "model.safetensors", tmp_path / "release.safetensors"
    write_weights(trained, fresh)
    write_release(trained, small)
    found = read_weights(small)
    assert found.steps == 12 and read_metadata(small)["storage"] == "int8"
    expected = weights(fresh)
    for name, value in weights(found).items():
        step = expected[name].abs().max() / 127
        assert torch.allclose(value, expected[name], rtol=1e-3, atol=float(step)), name
    if comfy.cli_args.args.cpu:
        assert agree(differences(found, load_model_file(small)))


def test_an_autoencoder_file_gives_it_back(fresh: Networks, tmp_path: Path) -> None:
    write_autoencoder(file := tmp_path / "ae.safetensors", fresh.autoencoder, PREVIEW)
    found, preview = read_autoencoder(file)
    assert preview == PREVIEW
    expected = fresh.autoencoder.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
    with pytest.raises(ValueError, match="lacks"):
        read_weights(file)


Change = Callable[[dict[str, Tensor], dict[str, str]], Any]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors, metadata: metadata.pop("unet_config"), "lacks .*unet_config"),
        (
            lambda tensors, metadata: metadata.update(text_config='{"hidden_size": 8}'),
            "The text_config of .*hidden_size",
        ),
        (lambda tensors, metadata: tensors[TOKEN_IDS].add_(1), "The words of .* are not those"),
        (lambda tensors, metadata: tensors.pop("model.diffusion_model.out.2.bias"), r"model\.diffusion_model\.\* of"),
        (lambda tensors, metadata: tensors.update(first_stage_model=torch.ones(1)), "first_stage_model"),
    ],
)
def test_a_file_of_another_model_is_told(change: Change, told: str, tmp_path: Path) -> None:
    tensors, metadata = read_tensors(MODEL_FILE)
    change(tensors, metadata)
    write_tensors(file := tmp_path / "other.safetensors", tensors, metadata)
    with pytest.raises(ValueError, match=told):
        read_weights(file)


def test_a_truncated_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "short.safetensors"
    file.write_bytes(MODEL_FILE.read_bytes()[:1_000_000])
    with pytest.raises(UserInputError, match="truncated"):
        read_weights(file)


def test_weights_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    autoencoder = build_autoencoder().requires_grad_(False)
    autoencoder.quant_conv.bias[2] = float("nan")
    with pytest.raises(
        ValueError, match=r"first_stage_model\.quant_conv\.bias holds values that are no finite numbers"
    ):
        write_autoencoder(tmp_path / "ae.safetensors", autoencoder, PREVIEW)
    assert not list(tmp_path.iterdir())
