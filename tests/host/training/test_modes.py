"""Modes, low rank, precision and gradient checkpointing on the host's own UNet."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from typing import Any

import comfy.sd
import comfy.utils
import pytest
import torch
from comfyui_dci.dci_core.concept.file import load_concept, save_concept
from comfyui_dci.dci_core.training.concept_training import ConceptTraining
from comfyui_dci.dci_core.training.run import run_training
from comfyui_dci.dci_core.training.settings import TrainingMode, TrainingSettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training import networks
from comfyui_dci.nodes.host.training.description import ConceptMaker
from comfyui_dci.nodes.host.training.networks import HostDenoiser
from comfyui_dci.nodes.host.weights import key_value_weights, patched_weight
from scenes import encode
from training_runs import inputs, outside_inference, prepared, train

from workbench.tiny import DEVICE, Tiny, tiny

pytestmark = pytest.mark.sweep

FAMILIES = ["sd1", "sd2", "sdxl"]


def changed_weights(base: Tiny, **changes: Any) -> tuple[set[str], dict[str, torch.Tensor]]:
    """Return the names of the UNet's weights that three steps changed, and the deltas the run reports."""
    training = prepared(base, **changes)
    denoiser = training.model.denoiser
    assert isinstance(denoiser, HostDenoiser)
    before = {name: tensor.detach().clone() for name, tensor in denoiser.unet.state_dict().items()}
    outside_inference(lambda: run_training(training, lambda step, loss: None))
    after = denoiser.unet.state_dict()
    return {f"diffusion_model.{n}" for n in after if not torch.equal(after[n], before[n])}, denoiser.deltas()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "mode, projections",
    [
        ("custom_diffusion", ("to_k", "to_v")),
        ("textual_inversion", ()),
        ("key_value", ("to_k", "to_v")),
        ("cross_attention", ("to_q", "to_k", "to_v", "to_out.0")),
    ],
)
def test_each_mode_changes_its_weights_and_applies(
    family: str, mode: str, projections: tuple[str, ...], tmp_path: Any
) -> None:
    base = tiny(family)
    layers = {name.rpartition(".attn2.")[0] for name in key_value_weights(base.model)}
    expected = {f"{layer}.attn2.{projection}" for layer in layers for projection in projections}
    changed, deltas = changed_weights(base, mode=mode)
    assert changed == {f"{name}.weight" for name in expected} and set(deltas) == expected
    concept, _ = train(base, mode=mode)
    assert set(concept.deltas) == expected and concept.info.settings["mode"] == mode
    save_concept(concept, tmp_path / "concept.safetensors", "float32")
    read = load_concept(tmp_path / "concept.safetensors")
    with torch.inference_mode():
        model, clip = apply_concept(base.model, base.clip, read)
        encode(clip, "a V* cat")
    assert set(model.patches) == {f"{name}.weight" for name in expected}
    if not TrainingMode(mode).learns_contexts:
        assert (read.info.prefix, read.info.suffix, read.contexts) == (0, 0, None)


def test_template_modes_train_on_photo_of_a() -> None:
    base = tiny("sd1")
    training = prepared(base, mode="custom_diffusion")
    with torch.inference_mode(False), torch.no_grad():
        ours = training.reference_text(torch.tensor([0]))
    with torch.inference_mode():
        tokens = base.clip.tokenize("photo of a dog dog dog cat")
        for index, vector in enumerate(training.prompts.tokens["clip_l"].detach()):
            tokens["l"][0][4 + index] = (vector, 1.0)
        theirs, _ = base.clip.encode_from_tokens(tokens, return_pooled=True)
    assert torch.allclose(ours.context.cpu(), theirs, atol=2e-5, rtol=1e-4)


def test_a_frozen_token_stays_the_rare_word_it_starts_from() -> None:
    base = tiny("sd1")
    concept, _ = train(base, mode="key_value")
    assert torch.equal(
        concept.tokens["clip_l"], prepared(base, mode="key_value").prompts.tokens["clip_l"].detach().cpu()
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_low_rank_deltas_have_their_rank_and_are_what_the_network_computes(family: str) -> None:
    base = tiny(family)
    training = prepared(base, rank=2, learning_rate=1e-2, precision="fp32")
    denoiser = training.model.denoiser
    assert isinstance(denoiser, HostDenoiser)
    text = outside_inference(lambda: training.reference_text(torch.tensor([0])))
    noisy, timesteps = torch.randn(1, 4, 8, 8).to(DEVICE), torch.tensor([500]).to(DEVICE)
    untouched = outside_inference(lambda: denoiser(noisy, timesteps, text))
    before = {name: tensor.detach().clone() for name, tensor in denoiser.unet.state_dict().items()}
    outside_inference(lambda: run_training(training, lambda step, loss: None))
    after = denoiser.unet.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    deltas = denoiser.deltas()
    assert set(deltas) == set(key_value_weights(base.model))
    assert {torch.linalg.matrix_rank(delta).item() for delta in deltas.values()} <= {1, 2}
    plain = prepared(base, precision="fp32")
    with torch.inference_mode(False), torch.no_grad():
        learned = denoiser(noisy, timesteps, text)
        assert isinstance(plain.model.denoiser, HostDenoiser)
        for name, delta in deltas.items():
            plain.model.denoiser.projections[name].add_(delta.to(DEVICE))
        assert torch.allclose(plain.model.denoiser(noisy, timesteps, text), learned, atol=1e-4)
    assert not torch.allclose(untouched, learned, atol=1e-3)


def test_low_rank_trains_few_numbers_and_starts_at_nothing() -> None:
    base = tiny("sd1")
    whole, low = prepared(base), prepared(base, rank=2)
    count = [sum(p.numel() for p in training.model.denoiser.projections.values()) for training in (whole, low)]
    assert count[1] < 0.15 * count[0]
    assert not any(delta.any() for delta in low.model.denoiser.deltas().values())


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_gives_the_same_bits_and_recomputes(family: str) -> None:
    base = tiny(family)
    plain, losses = train(base, inputs(regularized=True))
    saving, same = train(base, inputs(regularized=True), gradient_checkpointing=True)
    assert losses == same
    assert all(torch.equal(plain.deltas[name], delta) for name, delta in saving.deltas.items())
    assert all(torch.equal(plain.tokens[name], vectors) for name, vectors in saving.tokens.items())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_keeping_less_gives_the_same_bits(family: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny(family)
    lean, losses = train(base, precision=precision)
    less = saved_bytes(base, precision=precision)
    monkeypatch.setattr(networks, "_keep_less_for_backward", lambda unet: None)
    usual, same = train(base, precision=precision)
    assert losses == same
    assert all(torch.equal(usual.deltas[name], delta) for name, delta in lean.deltas.items())
    assert all(torch.equal(usual.tokens[name], vectors) for name, vectors in lean.tokens.items())
    assert less < saved_bytes(base, precision=precision)


def saved_bytes(base: Tiny, **changes: Any) -> int:
    """Return how much autograd keeps for the backward pass of one step."""
    training = prepared(base, **changes)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    def measure() -> None:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            training.draw_loss()

    outside_inference(measure)
    return sum(kept.values())


def test_gradient_checkpointing_keeps_less_for_the_backward_pass() -> None:
    base = tiny("sd1")
    assert saved_bytes(base, gradient_checkpointing=True) < 0.6 * saved_bytes(base)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_private_copy_is_freed_with_the_run(checkpointing: bool) -> None:
    training = prepared(tiny("sd1"), gradient_checkpointing=checkpointing)
    outside_inference(training.step)
    assert isinstance(training.model.denoiser, HostDenoiser)
    modules = [weakref.ref(module) for module in training.model.denoiser.unet.modules()]
    gc.collect()
    gc.disable()
    try:
        del training
        assert all(module() is None for module in modules)
    finally:
        gc.enable()


def test_bf16_keeps_the_frozen_network_in_bf16_and_masters_in_float32() -> None:
    base = tiny("sd1")
    training = prepared(base, precision="bf16")
    assert isinstance(training.model.denoiser, HostDenoiser)
    dtypes = {name: tensor.dtype for name, tensor in training.model.denoiser.unet.state_dict().items()}
    trained = {f"{name.removeprefix('diffusion_model.')}.weight" for name in training.model.denoiser.projections}
    assert {dtype for name, dtype in dtypes.items() if name not in trained} == {torch.bfloat16}
    assert {dtypes[name] for name in trained} == {torch.float32}
    rough, exact = (first_gradient(prepared(base, precision=precision)) for precision in ("bf16", "fp32"))
    assert torch.cosine_similarity(rough, exact, 0) > 0.99, "a gradient in bf16 must point where that in fp32 points"


def first_gradient(training: ConceptTraining) -> torch.Tensor:
    """The gradient of K and V in the up-sampling half at the first batch, as one vector.

    The other half is reached through this tiny network's 1 x 1 maps, where a group norm over two numbers turns a
    rounding into a change of sign.
    """
    assert math.isfinite(outside_inference(training._accumulate_gradients))
    gradients = {name: value.grad for name, value in training.parameters().items() if ".output_blocks." in name}
    return torch.cat([gradient.flatten() for gradient in gradients.values() if gradient is not None])


def test_fp16_trains_with_loss_scaling() -> None:
    training = prepared(tiny("sd1"), precision="fp16")
    before = {name: value.detach().clone() for name, value in training.parameters().items()}
    assert training.scaler.is_enabled() and training.scaler.get_scale() > 1
    assert {value.dtype for value in training.parameters().values()} == {torch.float32}
    assert training.model.denoiser.unet.out[2].weight.dtype == torch.float16
    outside_inference(lambda: run_training(training, lambda step, loss: None))
    assert all(torch.isfinite(value).all() for value in training.parameters().values())
    assert any(not torch.equal(value, before[name]) for name, value in training.parameters().items())


def test_regularization_is_evaluated_as_drift() -> None:
    concept, _ = train(tiny("sd1"), inputs(regularized=True), evaluate_every=2)
    history = concept.info.history
    assert [entry["step"] for entry in history["evaluations"]] == [2.0, 3.0]
    assert all(entry["drift"] > 0 for entry in history["evaluations"])
    assert history["best_step"] in (2, 3)


def test_the_best_step_is_marked_in_the_metadata() -> None:
    base = tiny("sd1")
    training = prepared(base)
    training.evaluations = [{"step": step, "loss": loss} for step, loss in ((1.0, 0.5), (2.0, 0.1), (3.0, 0.3))]
    info = ConceptMaker(HostModel(*base), inputs(), training.settings, "")(training).info
    assert info.history["best_step"] == 2 and info.history["evaluations"] == training.evaluations


def test_a_low_rank_file_is_a_lora_for_the_stock_loader(tmp_path: Any) -> None:
    base = tiny("sd1")
    concept, _ = train(base, rank=2, learning_rate=1e-2)
    path = tmp_path / "concept.safetensors"
    assert save_concept(concept, path, "float32", rank=2) < 1e-4
    with torch.inference_mode():
        stock, _ = comfy.sd.load_lora_for_models(base.model, None, comfy.utils.load_torch_file(str(path)), 1.0, 0.0)
        ours, _ = apply_concept(base.model, base.clip, load_concept(path))
        merged = [
            {k: patched_weight(k, entry) for k, entry in model.get_key_patches("diffusion_model.").items()}
            for model in (stock, ours)
        ]
    changed = [name for name in merged[0] if not torch.equal(merged[0][name], merged[1][name])]
    assert all(torch.allclose(merged[0][name], merged[1][name], atol=1e-6) for name in changed)
    name = next(iter(concept.deltas)) + ".weight"
    assert len(stock.patches) == len(ours.patches) == len(concept.deltas)
    assert not torch.equal(merged[0][name], base.model.model.state_dict()[name])


def test_a_zero_terminal_snr_model_trains_by_its_own_noise_levels() -> None:
    """As the host's ModelSamplingDiscrete node sets it: v-prediction, the last level about pure noise."""
    import comfy_extras.nodes_model_advanced as host_nodes

    base = tiny("sd1", v_prediction=True)
    with torch.inference_mode():
        (model,) = host_nodes.ModelSamplingDiscrete().patch(base.model, "v_prediction", True)
    training = prepared(Tiny(model, base.clip, base.vae))
    assert training.model.sigmas[-1] > 1000 > base.model.get_model_object("model_sampling").sigmas[-1]
    assert training.model.prediction.value == "v"
    training.model = replace(
        training.model, sigmas=training.model.sigmas[-1:].expand(1000)
    )  # nothing but the last level
    losses = outside_inference(lambda: run_training(training, lambda step, loss: None))
    assert torch.isfinite(torch.tensor(losses)).all()


def test_metadata_name_what_was_trained_and_on_what() -> None:
    concept, _ = train(tiny("sd2", v_prediction=True), inputs(regularized=True), rank=2, schedule="cosine")
    info = concept.info
    assert info.prediction == "v" and info.thumbnail.startswith("data:image/jpeg;base64,")
    assert info.settings["rank"] == 2 and info.settings["schedule"] == "cosine"
    assert set(info.versions) == {"torch", "comfyui"} and len(info.dataset_hash) == 64
    fields = set(TrainingSettings.__dataclass_fields__) - {"scheme", "seed", "steps"}
    assert fields <= set(info.settings) and len(info.history["loss"]) == 3
