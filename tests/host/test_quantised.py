"""Quantised checkpoints: a concept is applied to them and trained on them as on any other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch
from comfyui_dci.dci_core.concept.file import save_concept
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.description import key_of
from comfyui_dci.nodes.host.training.trainer import train_concept
from comfyui_dci.nodes.host.weights import base_hash, key_value_quantisation, key_value_weights, patched_weights
from quantised_models import FORMATS, OF_BLOCKS, PACKED, SCALED_FP8, dequantised, of_blocks, quantised, quantised_clip
from scenes import encode, ksample, random_concept
from training_runs import Watch, inputs, settings, train

from workbench.tiny import Tiny, tiny, tiny_clip


@cache
def plain() -> Tiny:
    """Return the model that the others were quantised from; it is shared, as they are, so tests must not change it."""
    return tiny("mini")


@cache
def made(kind: str) -> tuple[Tiny, Tiny]:
    """Return a quantised model, and one of the same values in plain numbers."""
    if kind == OF_BLOCKS:
        return of_blocks()
    base = quantised(kind)
    return base, dequantised(base)


@pytest.fixture(scope="module", autouse=True)
def forgotten_afterwards() -> Iterator[None]:
    yield
    plain.cache_clear()
    made.cache_clear()


every_kind = pytest.mark.parametrize("kind", [*FORMATS, OF_BLOCKS])


@every_kind
@torch.inference_mode()
def test_a_concept_is_applied_as_the_stock_loader_applies_its_file(kind: str, tmp_path: Path) -> None:
    base, _ = made(kind)
    concept = random_concept(plain())
    before = [weight.clone() for weight in key_value_weights(base.model).values()]
    path = tmp_path / "concept.safetensors"
    save_concept(concept, path, "float32")
    stock, _ = comfy.sd.load_lora_for_models(base.model, None, comfy.utils.load_torch_file(str(path)), 1.0, 0.0)
    ours, clip = apply_concept(base.model, base.clip, concept)
    none, _ = apply_concept(base.model, base.clip, concept, strength=0.0)
    prompt, negative = encode(clip, "a V* cat"), encode(clip, "")
    bare, by_stock, by_us, without, again = (
        ksample(model, prompt, negative) for model in (base.model, stock, ours, none, base.model)
    )
    assert torch.equal(by_us, by_stock) and not torch.equal(by_us, bare)
    assert torch.equal(without, bare) and torch.equal(again, bare)
    comfy.model_management.unload_all_models()
    assert all(torch.equal(a, b) for a, b in zip(key_value_weights(base.model).values(), before, strict=True))


@every_kind
def test_training_on_it_is_training_on_its_values(kind: str) -> None:
    base, same = made(kind)
    kept = base_hash(base.model)
    concept, losses = train(base)
    expected, expected_losses = train(same)
    assert losses == expected_losses
    assert all(torch.equal(concept.deltas[name], delta) for name, delta in expected.deltas.items())
    assert concept.info.base_hash == kept == base_hash(base.model)


def test_a_quantised_text_encoder_trains_as_its_values() -> None:
    clip, same = quantised_clip("float8_e4m3fn")
    base = plain()
    concept, losses = train(Tiny(base.model, clip, base.vae))
    expected, expected_losses = train(Tiny(base.model, same, base.vae))
    assert losses == expected_losses
    assert all(torch.equal(concept.tokens[name], vectors) for name, vectors in expected.tokens.items())


@pytest.mark.parametrize("kind", [SCALED_FP8, OF_BLOCKS])
@torch.inference_mode()
def test_the_values_are_those_of_the_file_while_a_concept_is_loaded(kind: str) -> None:
    base, same = made(kind)
    concept = random_concept(plain())
    model, clip = apply_concept(base.model, base.clip, concept)
    kept, values, hashed = key_value_weights(base.model), key_value_weights(same.model), base_hash(base.model)
    ksample(model, encode(clip, "a V* cat"), encode(clip, ""))  # merges the concept into the shared layers
    assert base_hash(base.model) == base_hash(model) == hashed
    for name, weight in key_value_weights(base.model).items():
        assert torch.equal(weight, values[name]) and torch.equal(weight, kept[name])
    patched = patched_weights(model, "diffusion_model.")
    for name, delta in concept.deltas.items():
        assert torch.allclose(
            patched[f"{name.removeprefix('diffusion_model.')}.weight"], values[name] + delta, atol=1e-6
        )


def test_what_a_checkpoint_is_kept_as_is_told_and_tells_it_from_others() -> None:
    assert key_value_quantisation(plain().model) == ""
    models = {kind: made(kind)[0].model for kind in ("float8_e4m3fn", "float8_e5m2", OF_BLOCKS)}
    assert [key_value_quantisation(model) for model in models.values()] == ["float8_e4m3fn", "float8_e5m2", "Q8"]
    assert key_value_quantisation(made(SCALED_FP8)[0].model) == "float8_e4m3fn"
    if PACKED in FORMATS:
        assert base_hash(made(PACKED)[0].model) == base_hash(plain().model)  # whose K and V are not quantised
    hashes = {base_hash(model) for model in (plain().model, *models.values())}
    assert len(hashes) == 4
    assert base_hash(quantised("float8_e4m3fn").model) == base_hash(models["float8_e4m3fn"])


def test_a_quantised_model_has_a_run_of_its_own() -> None:
    base, same = made("float8_e4m3fn")
    keys = [key_of(HostModel(*model), inputs(), settings()) for model in (base, same, quantised("float8_e4m3fn"))]
    assert keys[0] == keys[2] != keys[1]


def test_another_base_is_a_warning_on_a_quantised_one_too(caplog: pytest.LogCaptureFixture) -> None:
    base, _ = made(SCALED_FP8)
    with torch.inference_mode(), caplog.at_level(logging.WARNING, "comfyui_dci"):
        apply_concept(base.model, base.clip, random_concept(base))
        assert not caplog.records
        apply_concept(base.model, base.clip, random_concept(plain()))
    assert "another checkpoint" in caplog.text


def _unknown_packing(base: Tiny, name: str) -> None:
    layer = base.model.model.diffusion_model.get_submodule(name)
    layer.weight = torch.nn.Parameter(torch.zeros(layer.weight.numel() // 2, 1, dtype=torch.uint8), requires_grad=False)


def _failing_dequantisation(base: Tiny, name: str) -> None:
    class Sealed(torch.Tensor):
        def dequantize(self) -> torch.Tensor:
            raise NotImplementedError("no kernel for this device")

    layer = base.model.model.diffusion_model.get_submodule(name)
    layer.weight = torch.nn.Parameter(layer.weight.detach().as_subclass(Sealed), requires_grad=False)


@pytest.mark.parametrize(
    "spoil, reason",
    [(_unknown_packing, "uint8.*its values are"), (_failing_dequantisation, "Sealed.*no kernel for this")],
)
def test_training_on_what_cannot_be_turned_back_names_the_weight_and_the_cure(
    spoil: Callable[[Tiny, str], None], reason: str
) -> None:
    base, name = tiny("mini"), "middle_block.1.transformer_blocks.0.attn2.to_k"
    spoil(base, name)
    watch = Watch()
    message = f"The weight diffusion_model.{name}.weight is quantised .{reason}.*Load an fp16, bf16 or fp32 file"
    with torch.inference_mode(), pytest.raises(UserInputError, match=message):
        train_concept(HostModel(*base), inputs(), settings(), observer=watch)
    assert watch.steps == []
    with torch.inference_mode():
        apply_concept(base.model, tiny_clip("mini"), random_concept(plain()))  # asks for shapes, not for values


def test_what_cannot_be_turned_back_is_refused_before_class_images_are_drawn() -> None:
    base = tiny("mini")
    for layer, module in base.model.model.diffusion_model.named_modules():
        if isinstance(module, torch.nn.Linear):
            _unknown_packing(base, layer)
    with pytest.raises(UserInputError, match=r"to_k.weight is quantised \(uint8\).*Load an fp16, bf16 or fp32 file"):
        HostModel(*base).check_trainable()


def test_a_model_that_cannot_be_patched_is_told_so() -> None:
    base = tiny("mini")
    with torch.inference_mode():
        concept = random_concept(base)
        base.model.add_patches = lambda patches, strength: []
        base.model.clone = lambda: base.model
        with pytest.raises(UserInputError, match=r"takes 0 of the concept's \d+ weight changes.*Load an fp16"):
            apply_concept(base.model, base.clip, concept)
