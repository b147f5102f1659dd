"""Schedule, gradient norm, moving average and loss weights by hand, and that each setting reaches the run."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prediction import Prediction
from comfyui_dci.dci_core.training.data import MaskedLatents
from comfyui_dci.dci_core.training.diffusion import denoising_loss, min_snr_weight
from comfyui_dci.dci_core.training.loss import Batch, batch_loss
from comfyui_dci.dci_core.training.optimization import (
    MovingAverage,
    gradient_norm,
    learning_rate_factor,
    make_optimizer,
    scale_gradients,
)
from comfyui_dci.dci_core.training.run import run_training
from comfyui_dci.dci_core.training.settings import OptimizerKind, Schedule
from torch import nn
from toy_training import changed, copies, toy, toy_settings, trained


@pytest.mark.parametrize(
    "schedule, expected",
    [
        (Schedule.CONSTANT, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        (Schedule.LINEAR, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        (Schedule.COSINE, [0.5, 1.0, 1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]),
    ],
)
def test_rates_rise_to_one_and_fall_by_the_schedule(schedule: Schedule, expected: list[float]) -> None:
    assert [learning_rate_factor(schedule, step, 6, 2) for step in range(6)] == pytest.approx(expected)


@pytest.mark.parametrize("schedule", list(Schedule))
def test_without_warm_up_the_first_step_has_the_final_rate(schedule: Schedule) -> None:
    assert learning_rate_factor(schedule, 0, 10, 0) == 1.0


def test_the_run_follows_its_schedule_in_every_group() -> None:
    run = toy(toy_settings(steps=4, schedule="linear", warmup_steps=2, learning_rate=4e-3, context_learning_rate=8e-3))
    rates = []
    run_training(run, lambda step, loss: rates.append([group["lr"] for group in run.optimizer.param_groups]))
    assert rates == [pytest.approx([4e-3 * f, 4e-3 * f, 8e-3 * f]) for f in (0.5, 1.0, 1.0, 0.5)]


def test_the_token_rate_is_its_own() -> None:
    """Adam's first step is the rate times the gradient's sign, whatever the gradient's size."""
    run = toy(toy_settings(learning_rate=3e-4, token_learning_rate=5e-3, context_learning_rate=7e-3))
    before = copies(trained(run))
    run.step()
    for name, value in trained(run).items():
        rate = {"[T]": 5e-3, "[I]": 7e-3}.get(name[:3], 3e-4)
        assert (value - before[name]).abs().max().item() == pytest.approx(rate, rel=1e-3), name


def with_gradients(*gradients: list[float]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(len(gradient))) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = torch.tensor(gradient)
    return parameters


def test_the_gradient_norm_is_over_all_tensors_and_clipping_keeps_the_direction() -> None:
    parameters = with_gradients([3.0, 0.0], [4.0], [12.0])
    norm = gradient_norm(parameters)
    assert norm.item() == 13.0
    scale_gradients(parameters, norm, 20.0)
    assert parameters[2].grad is not None and parameters[2].grad.item() == 12.0
    scale_gradients(parameters, norm, 6.5)
    assert [p.grad.tolist() for p in parameters if p.grad is not None] == [[1.5, 0.0], [2.0], [6.0]]


def test_clipping_reaches_the_run() -> None:
    run = toy(toy_settings(max_gradient_norm=1e-3))
    run.step()
    assert gradient_norm(trained(run).values()).item() == pytest.approx(1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_stop_the_run_before_anything_changes(value: float) -> None:
    run = toy()
    before = copies(trained(run))
    run.prompts.tokens["clip_l"].register_hook(lambda gradient: gradient * value)
    with pytest.raises(UserInputError, match=r"training gradient became (nan|inf) at step 1 of 3.*max_gradient_norm"):
        run.step()
    assert changed(before, trained(run)) == set() and run.steps_done == 0


def test_accumulated_batches_are_averaged() -> None:
    """Two batches of one are the batch of both, where noise does not matter: σ → ∞ and v make the target −x₀."""
    losses, gradients = [], []
    for batch_size, accumulation in ((2, 1), (1, 2)):
        run = toy(
            toy_settings(batch_size=batch_size, accumulation_steps=accumulation, learning_rate=0.0),
            images=2,
            variants=1,
            prediction=Prediction.V,
        )
        run.model = replace(run.model, sigmas=torch.full((1,), 1e9, dtype=torch.float64))
        works = run.model.denoiser

        class Blind:
            """Sees no noise, so that the two ways of drawing it give the same."""

            projections = works.projections

            def __call__(self, noisy: Any, timesteps: Any, text: Any, works: Any = works) -> Any:
                return works(torch.ones_like(noisy), timesteps, text)

        run.model = replace(run.model, denoiser=Blind())
        losses.append(run.step())
        gradients.append(torch.cat([value.grad.flatten() for value in trained_of(run).values()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-6, atol=1e-9) and gradients[0].abs().max() > 1e-3


def trained_of(run: Any) -> dict[str, Any]:
    return {name: value for name, value in trained(run).items() if value.grad is not None}


def test_the_moving_average_by_hand() -> None:
    parameter = nn.Parameter(torch.tensor([0.0]))
    average = MovingAverage({"p": parameter}, 0.25)
    for value in (1.0, 2.0):
        parameter.data.fill_(value)
        average.update()
    # decays min(0.25, 2/11) and min(0.25, 3/12)
    first = 1.0 * (1 - 2 / 11)
    assert average.averages["p"].item() == pytest.approx(0.25 * first + 0.75 * 2.0)
    with average.applied():
        assert parameter.item() == average.averages["p"].item()
    assert parameter.item() == 2.0


def test_the_result_of_a_run_with_ema_is_the_average() -> None:
    run = toy(toy_settings(ema_decay=0.9))
    run_training(run, lambda step, loss: None)
    last, deltas = copies(trained(run)), run.deltas()
    with run.result():
        assert changed(last, trained(run)) == set(last)
        assert any(not torch.equal(deltas[name], delta) for name, delta in run.deltas().items())
        averaged = copies(trained(run))
    assert changed(last, trained(run)) == set()
    without = toy(toy_settings())
    run_training(without, lambda step, loss: None)
    assert changed(last, trained(without)) == set(), "the average must not change how training goes"
    assert run.evaluation_loss() != without.evaluation_loss(), "the average is what is evaluated"
    assert changed(averaged, trained(run)) == set(averaged)


@pytest.mark.parametrize(
    "prediction, expected", [(Prediction.EPSILON, [1.0, 1.0, 0.05]), (Prediction.V, [0.2, 0.8, 5 / 101])]
)
def test_min_snr_by_hand(prediction: Prediction, expected: list[float]) -> None:
    sigma = torch.tensor([2.0, 0.5, 0.1])  # SNR 0.25, 4, 100
    assert min_snr_weight(prediction, sigma, 5.0).tolist() == pytest.approx(expected, rel=1e-5)


def test_weights_and_masks_of_the_loss_by_hand() -> None:
    target = torch.zeros(2, 2, 1, 2)
    predicted = torch.tensor([[[[1.0, 3.0]], [[1.0, 3.0]]], [[[2.0, 0.0]], [[2.0, 4.0]]]])
    assert denoising_loss(predicted, target, torch.tensor([1.0, 0.5])).item() == pytest.approx((5.0 + 0.5 * 6.0) / 2)
    mask = torch.tensor([[[[1.0, 0.0]]], [[[0.5, 0.5]]]])
    assert denoising_loss(predicted, target, mask=mask).item() == pytest.approx((1.0 + 6.0) / 2)
    everywhere = denoising_loss(predicted, target, torch.ones(2), torch.ones(2, 1, 1, 2))
    assert everywhere.item() == pytest.approx(denoising_loss(predicted, target).item())


@pytest.mark.parametrize("setting", [{"min_snr_gamma": 1e-9}, {"prior_loss_weight": 0.0}])
def test_loss_weights_reach_the_run(setting: dict[str, float]) -> None:
    plain, weighted = toy(class_images=2), toy(toy_settings(**setting), class_images=2)
    losses = plain.step(), weighted.step()
    references = plain.evaluation_loss()
    assert losses[1] < losses[0] and references > 0
    if "prior_loss_weight" in setting:
        only = toy(class_images=2)
        only.regularization.latents.zero_()
        assert changed(copies(only.prompts.contexts), only.prompts.contexts) == set()
        captions = [toy(toy_settings(**setting), class_images=2) for _ in range(2)]
        captions[1].regularization.text.context.mul_(3.0)
        assert captions[0].step() == captions[1].step(), "with weight 0 class images must not matter"


def test_noise_offset_is_one_number_per_image_and_channel_in_input_and_target() -> None:
    def seen(offset: float) -> torch.Tensor:
        run = toy(toy_settings(noise_offset=offset, learning_rate=0.0, context_learning_rate=0.0), images=1, variants=1)
        run.model = replace(
            run.model, sigmas=torch.full((1,), 1e9, dtype=torch.float64)
        )  # the network sees the noise alone
        run.step()
        return run.model.denoiser.seen[0][0]

    difference = (seen(0.5) - seen(0.0)) / 0.5
    assert difference.flatten(2).std(dim=2).max() < 1e-6 and difference.abs().min() > 1e-3
    assert difference[:, :, 0, 0].unique().numel() == difference.shape[0] * difference.shape[1]


@pytest.mark.parametrize(
    "mode, learned",
    [
        ("ico", {"key_values", "tokens", "contexts"}),
        ("custom_diffusion", {"key_values", "tokens"}),
        ("textual_inversion", {"tokens"}),
        ("key_value", {"key_values"}),
        ("cross_attention", {"key_values", "tokens", "contexts"}),
    ],
)
def test_each_mode_trains_its_own_tensors(mode: str, learned: set[str]) -> None:
    run = toy(toy_settings(mode=mode))
    everything = {
        "key_values": run.model.denoiser.initial,
        "tokens": run.prompts.tokens,
        "contexts": run.prompts.contexts,
    }
    before = {part: copies(tensors) for part, tensors in everything.items()}
    run_training(run, lambda step, loss: None)
    after = {
        "key_values": {"attn2.to_k": run.model.denoiser.to_k.weight, "attn2.to_v": run.model.denoiser.to_v.weight},
        "tokens": run.prompts.tokens,
        "contexts": run.prompts.contexts,
    }
    assert {part for part, tensors in after.items() if changed(before[part], tensors)} == learned
    assert {name.split(".")[0] for name in run.parameters()} == learned


def test_images_of_several_sizes_are_one_batch() -> None:
    """The loss is the mean over images; with σ → ∞ and v the target is −x₀, so it follows from what the network said."""
    run = toy(toy_settings(batch_size=3), images=3, variants=1, prediction=Prediction.V)
    run.model = replace(run.model, sigmas=torch.full((1,), 1e9, dtype=torch.float64))
    works, said = run.model.denoiser, []

    class Watch:
        projections = works.projections

        def __call__(self, noisy: Any, timesteps: Any, text: Any) -> Any:
            said.append((works(noisy, timesteps, text), text))
            return said[-1][0]

    run.model = replace(run.model, denoiser=Watch())
    images = [
        run.references.latents[0][0],
        torch.full((2, 2, 4), 0.5, dtype=torch.float64),
        run.references.latents[2][0],
    ]
    text = run.reference_text(torch.tensor([0, 1, 2]))
    loss = batch_loss(
        run.model, Batch([MaskedLatents(image) for image in images], text), torch.Generator().manual_seed(1)
    )
    (square, square_text), (wide, wide_text) = said
    assert square.shape == (2, 2, 2, 2) and wide.shape == (1, 2, 2, 4)
    assert torch.equal(square_text.context, text.context[[0, 2]]) and torch.equal(wide_text.context, text.context[[1]])
    errors = [(square[0] + images[0]), (wide[0] + images[1]), (square[1] + images[2])]
    assert loss.item() == pytest.approx(sum(error.square().mean().item() for error in errors) / 3, rel=1e-6)


def test_an_optimizer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        UserInputError, match=r"adamw_8bit needs bitsandbytes.*pip install bitsandbytes.*or choose adamw"
    ):
        make_optimizer(OptimizerKind.ADAMW_8BIT, [{"params": with_gradients([1.0]), "lr": 1e-3}])


def test_the_8_bit_optimizer_is_bitsandbytes_without_weight_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 32-bit AdamW stands in for it, so its run must be AdamW's."""
    made: list[dict[str, Any]] = []

    def stand_in(groups: Any, **given: Any) -> torch.optim.Optimizer:
        made.append(given)
        return torch.optim.AdamW(groups, **given)

    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(optim=SimpleNamespace(AdamW8bit=stand_in)))
    runs = [toy(toy_settings(optimizer=optimizer)) for optimizer in ("adamw", "adamw_8bit")]
    assert run_training(runs[0], lambda step, loss: None) == run_training(runs[1], lambda step, loss: None)
    assert made == [{"weight_decay": 0.0}]
