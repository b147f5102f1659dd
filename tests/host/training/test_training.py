"""Training on the host's models: the copies compute what the host computes, and the host is left alone."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import comfy.model_management
import comfy.sd
import pytest
import torch
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.data import TextConditioning
from comfyui_dci.dci_core.training.run import run_training
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training import networks
from comfyui_dci.nodes.host.training.networks import HostDenoiser
from comfyui_dci.nodes.host.training.trainer import train_concept
from comfyui_dci.nodes.host.weights import key_value_weights
from patcher_state import assert_unchanged, patcher_state
from scenes import encode, random_concept, scene
from training_runs import Watch, inputs, outside_inference, prepared, settings, train

from workbench.tiny import DEVICE, Tiny, tiny, tiny_model

FAMILIES = ["sd1", *(pytest.param(name, marks=pytest.mark.sweep) for name in ("sd2", "sdxl"))]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_private_network_predicts_what_the_host_predicts(family: str) -> None:
    s = scene(family)
    x, timesteps = torch.randn(2, 4, 8, 8).to(DEVICE), torch.tensor([10, 900]).to(DEVICE)
    cond, options = s.negative[0]
    with torch.inference_mode(False):
        cond, pooled = cond.clone().to(DEVICE), None
        if family == "sdxl":
            pooled = options["pooled_output"].clone().to(DEVICE).expand(2, -1)
        denoiser = HostDenoiser(HostModel(*s.base), DEVICE, settings(precision="fp32"))
        ours = denoiser(x, timesteps, TextConditioning(cond.expand(2, -1, -1), pooled))
    unet = s.base.model.model.diffusion_model
    y = (
        None
        if pooled is None
        else s.base.model.model.encode_adm(pooled_output=pooled, width=64, height=64, device=DEVICE).to(DEVICE)
    )
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([s.base.model])
        theirs = unet(x, timesteps.float(), context=cond.expand(2, -1, -1), y=y, transformer_options={})
    # Other attention kernels: equal up to float32 rounding.
    assert torch.allclose(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("clip_skip", [None, -2])
@pytest.mark.parametrize("family", FAMILIES)
def test_training_prompts_are_encoded_as_the_host_encodes_them(family: str, clip_skip: int | None) -> None:
    base = tiny(family)
    if clip_skip is not None:
        base.clip.clip_layer(clip_skip)
    training = prepared(base, scheme=ICOScheme(1, 1, 3))
    with torch.inference_mode(False), torch.no_grad():
        ours = training.reference_text(torch.tensor([1]))
        vectors = {
            name: (training.prompts.contexts[name][1], training.prompts.tokens[name]) for name in training.prompts.words
        }
    with torch.inference_mode():
        tokens = base.clip.tokenize("a dog dog dog cat .")
        for name, rows in tokens.items():
            contexts, concept = vectors[f"clip_{name}"]
            learned = [contexts[0], *concept, None, contexts[1]]
            rows[0][1:7] = [(v.detach() if v is not None else rows[0][5][0], 1.0) for v in learned]
        theirs, pooled = base.clip.encode_from_tokens(tokens, return_pooled=True)
    assert torch.allclose(ours.context.cpu(), theirs, atol=2e-5, rtol=1e-4)
    if family == "sdxl":
        assert ours.pooled is not None and torch.allclose(ours.pooled.cpu(), pooled, atol=2e-5, rtol=1e-4)
    else:
        assert ours.pooled is None


CAPTIONS = ["on a wooden table, in the sun", "", "outdoors"]


@pytest.mark.parametrize("mode", ["ico", "custom_diffusion"])
@pytest.mark.parametrize("family", FAMILIES)
def test_captions_of_any_length_are_encoded_and_pooled_as_the_host_does_each(family: str, mode: str) -> None:
    """Rows of one batch end at different places; the host encodes each alone."""
    base = tiny(family)
    training = prepared(base, replace(inputs(), captions=CAPTIONS), mode=mode)
    with torch.inference_mode(False), torch.no_grad():
        ours = training.reference_text(torch.tensor([2, 0, 1]))
        contexts, learned = training.prompts.contexts, training.prompts.tokens
    before = training.settings.prompt_scheme.prefix
    for row, image in enumerate([2, 0, 1]):
        with torch.inference_mode():
            text = "dog " * before + "dog dog dog cat " + (". " if mode == "ico" else "") + CAPTIONS[image]
            tokens = base.clip.tokenize(text)
            for name, rows in tokens.items():
                own = contexts[f"clip_{name}"][image].detach()
                rows[0][1 : before + 4] = [(v, 1.0) for v in [*own[:before], *learned[f"clip_{name}"].detach()]]
                if mode == "ico":
                    rows[0][before + 5] = (own[-1], 1.0)
            theirs, pooled = base.clip.encode_from_tokens(tokens, return_pooled=True)
        assert torch.allclose(ours.context[row].cpu(), theirs[0], atol=2e-5, rtol=1e-4)
        if family == "sdxl":
            assert ours.pooled is not None and torch.allclose(ours.pooled[row].cpu(), pooled[0], atol=2e-5, rtol=1e-4)


@pytest.mark.sweep
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_empty_captions_change_no_bit_and_others_do(family: str) -> None:
    plain, losses = train(tiny(family), evaluate_every=2)
    empty, same = train(tiny(family), replace(inputs(), captions=["", "", ""]), evaluate_every=2)
    told, others = train(tiny(family), replace(inputs(), captions=CAPTIONS), evaluate_every=2)
    assert losses == same and plain.info == empty.info and plain.info.settings["captions"] == 0
    for ours, theirs in ((plain.deltas, empty.deltas), (plain.tokens, empty.tokens)):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert others != losses and told.info.settings["captions"] == 2
    assert told.info.history["evaluations"] != plain.info.history["evaluations"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_token_gives_no_gradient(family: str) -> None:
    base = tiny(family)
    with torch.inference_mode(False), torch.enable_grad():
        denoiser = HostDenoiser(HostModel(*base), torch.device("cpu"), settings())
        width = base.model.model.model_config.unet_config["context_dim"]
        context = torch.randn(1, 77, width, requires_grad=True)
        pooled = torch.randn(1, 96) if family == "sdxl" else None
        denoiser(
            torch.randn(1, 4, 8, 8), torch.tensor([500]), TextConditioning(context, pooled)
        ).square().sum().backward()
    assert context.grad is not None
    assert not context.grad[:, 0].any() and context.grad[:, 1:].abs().amax(dim=-1).min() > 0


@pytest.mark.parametrize("regularized", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_three_steps_change_what_they_should_and_nothing_else(family: str, regularized: bool) -> None:
    base = tiny(family)
    model_before, clip_before = patcher_state(base.model), patcher_state(base.clip.patcher)
    training = prepared(base, inputs(regularized=regularized))
    denoiser = training.model.denoiser
    assert isinstance(denoiser, HostDenoiser)
    before = {name: tensor.detach().clone() for name, tensor in denoiser.unet.state_dict().items()}
    learned = {
        **{f"T {n}": p for n, p in training.prompts.tokens.items()},
        **{f"I {n}": p for n, p in training.prompts.contexts.items()},
    }
    learned_before = {name: p.detach().clone() for name, p in learned.items()}
    outside_inference(lambda: run_training(training, lambda step, loss: None))
    changed = {name for name, tensor in denoiser.unet.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{name.removeprefix('diffusion_model.')}.weight" for name in key_value_weights(base.model)}
    assert all(not torch.equal(p, learned_before[name]) for name, p in learned.items())
    assert_unchanged(base.model, model_before)
    assert_unchanged(base.clip.patcher, clip_before)
    assert all(
        not p.requires_grad
        for n, p in denoiser.unet.named_parameters()
        if f"diffusion_model.{n[:-7]}" not in denoiser.projections
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_bits(family: str) -> None:
    first, losses = train(tiny(family), inputs(regularized=True))
    again, same = train(tiny(family), inputs(regularized=True))
    other, _ = train(tiny(family), inputs(regularized=True), seed=6)
    assert losses == same
    for ours, theirs in ((first.deltas, again.deltas), (first.tokens, again.tokens)):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not torch.equal(first.tokens[name], other.tokens[name]) for name in first.tokens)


def test_training_leaves_the_global_random_stream_alone() -> None:
    base = tiny("sd1")
    torch.manual_seed(42)
    expected = torch.rand(3)
    torch.manual_seed(42)
    train(base)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.sweep
@pytest.mark.parametrize("v_prediction", [False, True])
def test_training_lowers_the_loss_on_fixed_noise(v_prediction: bool) -> None:
    base = Tiny(tiny_model("sd1", v_prediction), *tiny("sd1")[1:])
    training = prepared(base, steps=40, learning_rate=5e-3, context_learning_rate=5e-3)

    def run() -> tuple[float, float]:
        before = training.evaluation_loss(draws=8)
        run_training(training, lambda step, loss: None)
        return before, training.evaluation_loss(draws=8)

    before, after = outside_inference(run)
    assert after < 0.97 * before


def test_a_lora_on_the_model_is_part_of_what_is_trained() -> None:
    s = scene()
    with torch.inference_mode(False):
        plain = HostDenoiser(HostModel(*s.base), torch.device("cpu"), settings())
        patched = HostDenoiser(HostModel(s.model, s.clip, s.base.vae), torch.device("cpu"), settings())
        for name, delta in s.concept.deltas.items():
            assert torch.allclose(patched.projections[name], plain.projections[name] + delta, atol=1e-6)
            assert not patched.deltas()[name].any()


def test_a_finished_concept_describes_itself_and_applies() -> None:
    base = tiny("sd1")
    concept, losses = train(base, inputs("tortoise plushy"))
    assert len(losses) == 3 and concept.info.class_noun == "tortoise plushy" and concept.info.family == "sd1"
    assert concept.tokens["clip_l"].shape == (3, 64)
    assert concept.contexts is not None and concept.contexts["clip_l"].shape == (3, 2, 64)
    assert not concept.tokens["clip_l"].is_inference() and not concept.tokens["clip_l"].requires_grad
    from comfyui_dci.nodes.host.concepts.applying import apply_concept

    with torch.inference_mode():
        _, clip = apply_concept(base.model, base.clip, concept)
        encode(clip, "a V* tortoise plushy")


@pytest.mark.parametrize("error", [comfy.model_management.InterruptProcessingException, ValueError])
def test_cancelling_leaves_everything_as_it_was(error: type[BaseException]) -> None:
    base = tiny("sd1")
    before = patcher_state(base.model)

    def stop(step: int, loss: float) -> None:
        if step == 2:
            raise error()

    with pytest.raises(error), torch.inference_mode():
        train_concept(HostModel(*base), inputs(), settings(), observer=Watch(stop))
    assert_unchanged(base.model, before)
    assert len(train(base)[1]) == 3


def test_a_diverging_run_says_what_to_do() -> None:
    base = tiny("sd1")
    with torch.no_grad():
        base.model.model.diffusion_model.out[2].bias.fill_(float("nan"))
    with pytest.raises(UserInputError, match="training loss became nan.*Lower the learning rate"):
        train(base)


def test_a_concept_for_a_second_training_round_keeps_its_own_base() -> None:
    s = scene()
    concept, _ = train(Tiny(s.model, s.clip, s.base.vae))
    assert concept.info.base_hash == random_concept(s.base).info.base_hash


def test_attention_in_training_is_torchs_own_which_has_a_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other backends (sage, flash, xformers) have none or part of one; the host's own choice must not be asked."""
    import comfy.ldm.modules.attention as host_attention

    calls, real = [], networks.attention_pytorch
    monkeypatch.setattr(networks, "attention_pytorch", lambda *given, **rest: calls.append(1) or real(*given, **rest))
    training = prepared(tiny("sd1"))
    outside_inference(training.step)
    blocks = [m for m in training.model.denoiser.unet.modules() if isinstance(m, host_attention.BasicTransformerBlock)]
    assert len(calls) == 2 * len(blocks) > 0


def test_the_private_copy_is_freed_before_the_cache_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    base, copies, held = tiny("sd1"), [], []
    make = networks.HostDenoiser.__init__

    def watch(denoiser: HostDenoiser, *args: Any) -> None:
        make(denoiser, *args)
        copies.append(weakref.ref(denoiser.unet))

    monkeypatch.setattr(networks.HostDenoiser, "__init__", watch)
    monkeypatch.setattr(
        comfy.model_management, "soft_empty_cache", lambda: held.append([copy() is not None for copy in copies])
    )
    gc.collect()
    gc.disable()
    try:
        train(base)
    finally:
        gc.enable()
    assert held[-1] == [False]
