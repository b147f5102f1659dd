"""Preview pictures: the sampler by an oracle, the prompt it is given, and that training does not notice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prediction import Prediction
from comfyui_dci.dci_core.training.diffusion import denoised_latents, noised_latents, training_target
from comfyui_dci.dci_core.training.ico import PromptWords, assemble_free_prompt
from comfyui_dci.dci_core.training.preview import preview_latents
from comfyui_dci.dci_core.training.run import run_training
from toy_training import WIDTH, changed, copies, toy, toy_settings, trained


def words(run: Any, before: int = 1, after: int = 1) -> Any:
    generator = torch.Generator().manual_seed(3)
    return {
        name: tuple(torch.randn(count, WIDTH, generator=generator, dtype=torch.float64) for count in (before, after))
        for name in run.prompts.words
    }


@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_clean_latent_follows_from_what_the_network_predicts(prediction: Prediction) -> None:
    clean, noise, sigma = torch.randn(1, 4, 2, 2).double(), torch.randn(1, 4, 2, 2).double(), 3.0
    level = torch.tensor([sigma], dtype=torch.float64)
    predicted = training_target(prediction, clean, noise, level)
    x = noised_latents(clean, noise, level) * (1 + sigma**2) ** 0.5
    torch.testing.assert_close(denoised_latents(prediction, predicted, x, sigma), clean)


@pytest.mark.parametrize("prediction", list(Prediction))
def test_a_network_that_knows_the_picture_draws_it(prediction: Prediction) -> None:
    run = toy(prediction=prediction)
    picture = torch.randn(1, 2, 3, 5, dtype=torch.float64)

    class Oracle:
        projections = run.model.denoiser.projections

        def __call__(self, noisy: Any, timesteps: Any, text: Any) -> torch.Tensor:
            sigma = run.model.sigmas[timesteps]
            noise = (noisy * (1 + sigma.view(-1, 1, 1, 1) ** 2).sqrt() - picture) / sigma.view(-1, 1, 1, 1)
            return training_target(prediction, picture.expand(2, -1, -1, -1), noise, sigma)

    run.model = replace(run.model, denoiser=Oracle())
    drawn = preview_latents(run, words(run), 3, 5, steps=4)
    torch.testing.assert_close(drawn, picture, atol=1e-4, rtol=1e-4)


def test_the_prompt_holds_the_concept_and_the_other_row_is_empty() -> None:
    run = toy(names=("clip_l", "clip_g"), pooled=True)
    given = words(run)
    preview_latents(run, given, 2, 2, steps=1)
    (concept, (end,)), (empty, empty_end) = run.model.encoder.seen
    some = run.prompts.words["clip_g"]
    expected = [
        some.start,
        given["clip_g"][0][0],
        *run.prompts.tokens["clip_g"].detach(),
        given["clip_g"][1][0],
        some.end,
    ]
    assert torch.equal(concept["clip_g"][0, : end + 1], torch.stack(expected)) and end == 5
    assert torch.equal(empty["clip_g"][0, :2], torch.stack([some.start, some.end])) and empty_end == [1]
    between = {name: (before[:0], after, before[:0]) for name, (before, after) in given.items()}
    preview_latents(run, between, 2, 2, steps=1)
    twice, (end,) = run.model.encoder.seen[-2]
    star = run.prompts.tokens["clip_g"].detach()
    expected = [some.start, *star, *given["clip_g"][1], *star, some.end]
    assert torch.equal(twice["clip_g"][0, : end + 1], torch.stack(expected))
    assert run.model.denoiser.seen[0][2].context.shape[0] == 2


def test_guidance_moves_away_from_the_empty_prompt() -> None:
    run = toy()
    drawn = [preview_latents(run, words(run), 2, 2, guidance=scale) for scale in (1.0, 1.0, 5.0)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_training_does_not_notice_previews() -> None:
    alone, watched = (toy(toy_settings(ema_decay=0.9)) for _ in range(2))
    run_training(alone, lambda step, loss: None)
    state = torch.get_rng_state()
    run_training(watched, lambda step, loss: preview_latents(watched, words(watched), 2, 2, steps=2).sum())
    assert torch.equal(torch.get_rng_state(), state)
    assert alone.losses == watched.losses and changed(copies(trained(alone)), trained(watched)) == set()


def test_the_moving_average_is_what_is_drawn() -> None:
    averaged, last = toy(toy_settings(ema_decay=0.9)), toy(toy_settings())
    for run in (averaged, last):
        run_training(run, lambda step, loss: None)
    assert changed(copies(trained(averaged)), trained(last)) == set()
    given = words(last)
    assert not torch.equal(preview_latents(averaged, given, 2, 2), preview_latents(last, given, 2, 2))


def test_a_prompt_that_is_too_long_is_refused() -> None:
    one = torch.zeros(WIDTH)
    some = PromptWords(one, one[None], one, one, 8)
    assert assemble_free_prompt(some, torch.zeros(6, WIDTH))[1] == 7
    with pytest.raises(UserInputError, match="The prompt needs 9 tokens, the text encoder takes 8"):
        assemble_free_prompt(some, torch.zeros(7, WIDTH))
