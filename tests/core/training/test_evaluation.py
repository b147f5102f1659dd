"""What is measured on fixed noise: comparable between steps, and without a trace in the run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.prediction import Prediction
from comfyui_dci.dci_core.training.prompts import PromptParts, TrainingPrompts
from comfyui_dci.dci_core.training.run import run_training
from toy_training import WIDTH, changed, copies, toy, toy_settings, trained


def test_the_evaluation_loss_is_the_same_each_time_and_depends_on_its_seed() -> None:
    run = toy()
    assert run.evaluation_loss() == run.evaluation_loss() == toy().evaluation_loss()
    assert run.evaluation_loss(seed=1) != run.evaluation_loss(seed=2)


def test_the_evaluation_loss_does_not_disturb_training() -> None:
    alone, watched = toy(class_images=2), toy(class_images=2)
    for _ in range(3):
        before = copies(trained(watched))
        watched.evaluation_loss(draws=3)
        assert changed(before, trained(watched)) == set()
        assert alone.step() == watched.step()
    assert changed(copies(trained(alone)), trained(watched)) == set()


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_what_is_measured_does_not_disturb_training(ema_decay: float) -> None:
    alone, watched = (toy(toy_settings(ema_decay=ema_decay), class_images=2) for _ in range(2))
    for _ in range(3):
        before = copies(trained(watched))
        assert watched.measured() == watched.measured()
        watched.key_value_change()
        assert changed(before, trained(watched)) == set()
        assert alone.step() == watched.step()
    assert changed(copies(trained(alone)), trained(watched)) == set()


def test_without_contexts_the_prompt_is_the_subject_and_its_caption_at_the_same_noise() -> None:
    captions = {name: [torch.randn(count, WIDTH).double() for count in (0, 1, 2)] for name in ("clip_l", "clip_g")}
    run = toy(toy_settings(scheme=ICOScheme(1, 1, 1)), names=("clip_l", "clip_g"), pooled=True, captions=captions)
    run.evaluation_loss(draws=2)
    whole, with_contexts = run.model.encoder.seen[:], run.model.denoiser.seen[:]
    run.model.encoder.seen.clear()
    run.model.denoiser.seen.clear()
    assert run.evaluation_loss_without_contexts(draws=2) is not None
    for (prompts, ends), (whole_prompts, whole_ends) in zip(run.model.encoder.seen, whole, strict=True):
        assert ends == [end - 2 for end in whole_ends]
        for name, words in run.prompts.words.items():
            for row, end in enumerate(ends):
                prompt, full = prompts[name][row], whole_prompts[name][row]
                assert torch.equal(prompt[:3], torch.cat([full[:1], full[2:4]]))  # BOS [T] [E]: without [I] at 1
                assert torch.equal(prompt[3 : end + 1], full[5 : end + 3])  # caption EOS: without [I] at 4
                assert (prompt[end + 1 :] == words.padding).all() and prompt.shape == full.shape
    for (noisy, timesteps, text), (same, same_timesteps, _) in zip(run.model.denoiser.seen, with_contexts, strict=True):
        assert torch.equal(noisy, same) and torch.equal(timesteps, same_timesteps)
        assert text.pooled is not None


@pytest.mark.parametrize(
    "changes", [{"scheme": ICOScheme(0, 0, 2)}, {"mode": "custom_diffusion", "scheme": ICOScheme(1, 1, 1)}]
)
def test_there_is_no_loss_without_contexts_where_none_are_learned(changes: dict[str, Any]) -> None:
    run = toy(toy_settings(**changes))
    assert run.evaluation_loss_without_contexts() is None and set(run.measured()) == {"loss"}


def test_the_loss_without_contexts_is_that_of_a_run_that_never_had_any() -> None:
    run, plain = toy(), toy()
    none = {name: vectors[:, :0] for name, vectors in run.prompts.contexts.items()}
    plain.settings = toy_settings(scheme=ICOScheme(0, 0, 2))
    plain.prompts = TrainingPrompts(PromptParts(run.prompts.words, run.prompts.tokens, none), plain.settings)
    assert run.evaluation_loss_without_contexts() == plain.evaluation_loss() != run.evaluation_loss()


def test_the_change_of_a_run_is_its_deltas_by_what_it_began_with() -> None:
    run = toy(toy_settings(ema_decay=0.9))
    assert run.key_value_change() == 0.0
    run_training(run, lambda number, loss: None)
    with run.result():
        moved = torch.cat(
            [(run.model.denoiser.projections[n] - w).flatten() for n, w in run.model.denoiser.initial.items()]
        )
    before = torch.cat([weight.flatten() for weight in run.model.denoiser.initial.values()])
    assert run.key_value_change() == pytest.approx((moved.norm() / before.norm()).item(), rel=1e-3) != 0


def test_the_evaluation_loss_looks_at_the_references_only() -> None:
    assert toy(class_images=2).evaluation_loss() == toy().evaluation_loss()


def test_the_evaluation_loss_is_the_mean_over_its_draws() -> None:
    """With one image and σ so large that v is -x₀, each draw's loss follows from what the network saw."""
    run = toy(images=1, variants=1, prediction=Prediction.V)
    run.model = replace(run.model, sigmas=torch.full((1,), 1e6, dtype=torch.float64))
    one, many = run.evaluation_loss(draws=1), run.evaluation_loss(draws=4)
    per_draw = []
    for noisy, timesteps, text in run.model.denoiser.seen[1:]:
        target = -run.references.latents[0, 0]
        per_draw.append(((run.model.denoiser(noisy, timesteps, text) - target) ** 2).mean().item())
    assert many == pytest.approx(sum(per_draw) / 4, rel=1e-4)
    assert one == pytest.approx(per_draw[0], rel=1e-4)


@pytest.mark.parametrize("prediction", list(Prediction))
def test_training_lowers_the_evaluation_loss(prediction: Prediction) -> None:
    run = toy(toy_settings(steps=80, learning_rate=2e-2, context_learning_rate=5e-2), prediction=prediction)
    before = run.evaluation_loss()
    run_training(run, lambda number, loss: None)
    assert run.evaluation_loss() < 0.7 * before
