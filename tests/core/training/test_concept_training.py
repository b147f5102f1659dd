"""ICO training on a toy network, see ``toy_training``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.prediction import Prediction
from comfyui_dci.dci_core.training.concept_training import ConceptTraining
from comfyui_dci.dci_core.training.data import Deck, TextConditioning
from comfyui_dci.dci_core.training.model import detach_first_token
from comfyui_dci.dci_core.training.run import run_training
from torch import Tensor
from toy_training import TIMESTEPS, changed, copies, frozen, toy, toy_settings, trained


def finite_difference(make: Callable[[], ConceptTraining], name: str, index: int, step: float = 1e-5) -> float:
    """Central difference of the first step's loss in one entry of one trained tensor."""
    losses = []
    for move in (step, -step):
        run = make()
        with torch.no_grad():
            trained(run)[name].view(-1)[index] += move
        losses.append(run.step())
    return (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize("name", ["attn2.to_k", "attn2.to_v", "[T] clip_l", "[I] clip_l"])
@pytest.mark.parametrize("prediction", list(Prediction))
def test_gradients_of_the_loss_equal_finite_differences(name: str, prediction: Prediction) -> None:
    def make() -> ConceptTraining:
        settings = toy_settings(learning_rate=0.0, context_learning_rate=0.0)
        return toy(settings, class_images=2, pooled=True, prediction=prediction)

    run = make()
    run.step()
    gradient = trained(run)[name].grad
    assert gradient is not None
    # central differences with a step of 1e-5 leave about 1e-10 of truncation and 1e-11 of rounding
    differences = [finite_difference(make, name, index) for index in range(gradient.numel())]
    assert gradient.flatten().tolist() == pytest.approx(differences, rel=1e-6, abs=1e-8)
    assert gradient.abs().max() > 1e-3


def test_training_changes_keys_values_and_vectors_and_nothing_else() -> None:
    run = toy(names=("clip_l", "clip_g"), class_images=2, pooled=True)
    before, fixed = copies(trained(run)), copies(frozen(run))
    for _ in range(3):
        run.step()
    assert changed(before, trained(run)) == set(before)
    assert changed(fixed, frozen(run)) == set()
    assert all(value.grad is None for value in frozen(run).values())


def test_only_contexts_of_drawn_images_change() -> None:
    """One image a step: a row moves once its image was drawn, and from then on also by Adam's momentum."""
    run = toy(toy_settings(batch_size=1), images=5)
    start = run.prompts.contexts["clip_l"].detach().clone()
    drawn: list[int] = []
    for step in range(1, 6):
        run.step()
        gradient = run.prompts.contexts["clip_l"].grad
        assert gradient is not None
        rows = gradient.abs().sum(dim=(1, 2)).nonzero().flatten().tolist()
        assert len(rows) == 1
        drawn += rows
        moved = [not torch.equal(new, old) for new, old in zip(run.prompts.contexts["clip_l"], start)]
        assert [row for row in range(5) if moved[row]] == sorted(drawn)
        assert len(set(drawn)) == step, "each image comes once before any comes again"


def test_every_image_is_trained_with_its_own_contexts() -> None:
    """Without noise the network sees the clean latents, so image and prompt can be told by their values."""
    run = toy(toy_settings(batch_size=2, learning_rate=0.0, context_learning_rate=0.0), images=5)
    run.model = replace(run.model, sigmas=torch.zeros(TIMESTEPS, dtype=torch.float64))
    for image in range(5):
        run.references.latents[image] = image
        with torch.no_grad():
            run.prompts.contexts["clip_l"][image] = 10.0 + image
    for _ in range(5):
        run.step()
    drawn = []
    for (noisy, _, _), (prompts, (end, _)) in zip(run.model.denoiser.seen, run.model.encoder.seen):
        assert torch.equal(noisy[:, 0, 0, 0], prompts["clip_l"][:, 1, 0] - 10.0)  # [I]_1 stands behind BOS
        assert torch.equal(prompts["clip_l"][:, 1], prompts["clip_l"][:, end - 1])  # the last one before EOS
        drawn += noisy[:, 0, 0, 0].tolist()
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_class_images_follow_the_references_with_the_captions_they_own() -> None:
    run = toy(toy_settings(batch_size=2, learning_rate=0.0, context_learning_rate=0.0), class_images=4, pooled=True)
    assert run.regularization is not None
    assert run.regularization.text.pooled is not None
    run.model = replace(run.model, sigmas=torch.zeros(TIMESTEPS, dtype=torch.float64))
    for image in range(4):
        for tensor in (run.regularization.latents, run.regularization.text.context, run.regularization.text.pooled):
            tensor[image] = 100.0 + image
    for _ in range(2):
        run.step()
    drawn = []
    for noisy, timesteps, text in run.model.denoiser.seen:
        assert noisy.shape[0] == timesteps.shape[0] == 4
        assert text.pooled is not None
        assert (noisy[:2] < 100).all()
        assert torch.equal(noisy[2:, 0, 0, 0], text.context[2:, 3, 1])
        assert torch.equal(noisy[2:, 0, 0, 0], text.pooled[2:, 0])
        drawn += noisy[2:, 0, 0, 0].tolist()
    assert sorted(drawn) == [100.0, 101.0, 102.0, 103.0]


@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_network_is_told_the_timestep_of_the_noise_it_sees(prediction: Prediction) -> None:
    """With black images a network that knows σ from its timestep can predict perfectly: the loss is zero."""
    run = toy(toy_settings(learning_rate=0.0), prediction=prediction)
    run.references.latents.zero_()
    learned = run.model.denoiser.projections["attn2.to_k"]

    class Oracle:
        projections = run.model.denoiser.projections

        def __call__(self, noisy: Tensor, timesteps: Tensor, text: TextConditioning) -> Tensor:
            sigma = run.model.sigmas[timesteps].view(-1, 1, 1, 1)
            velocity = noisy / sigma  # x₀ = 0: x_t = σε/√(1+σ²) and v = ε/√(1+σ²)
            factor = (1 + sigma**2).sqrt() if prediction is Prediction.EPSILON else 1.0
            return velocity * factor + 0.0 * learned.sum()

    run.model = replace(run.model, denoiser=Oracle())
    assert run.step() == pytest.approx(0.0, abs=1e-28)


def test_all_timesteps_are_trained() -> None:
    run = toy(toy_settings(learning_rate=0.0, context_learning_rate=0.0))
    for _ in range(200):
        run.step()
    assert {int(t) for _, timesteps, _ in run.model.denoiser.seen for t in timesteps} == set(range(TIMESTEPS))


@pytest.mark.parametrize("variants, expected", [(1, {0.0}), (2, {0.0, 1.0})])
def test_mirrored_images_are_used_when_there_are_any(variants: int, expected: set[float]) -> None:
    run = toy(toy_settings(learning_rate=0.0, context_learning_rate=0.0), variants=variants)
    run.model = replace(run.model, sigmas=torch.zeros(TIMESTEPS, dtype=torch.float64))
    for variant in range(variants):
        run.references.latents[:, variant] = variant
    for _ in range(20):
        run.step()
    assert {value.item() for noisy, _, _ in run.model.denoiser.seen for value in noisy.unique()} == expected


def test_the_first_step_moves_each_group_at_its_own_rate() -> None:
    """Adam's first step is the rate times the gradient's sign, whatever the gradient's size."""
    run = toy(toy_settings(learning_rate=3e-4, context_learning_rate=7e-3), names=("clip_l", "clip_g"))
    before = copies(trained(run))
    run.step()
    for name, value in trained(run).items():
        rate = 7e-3 if name.startswith("[I]") else 3e-4
        assert (value - before[name]).abs().max().item() == pytest.approx(rate, rel=1e-3), name


def test_each_trained_tensor_is_in_one_group_without_weight_decay() -> None:
    run = toy(toy_settings(learning_rate=3e-4, context_learning_rate=7e-3), names=("clip_l", "clip_g"))
    run.step()
    groups = run.optimizer.param_groups
    assert [group["lr"] for group in groups] == [3e-4, 3e-4, 7e-3]
    assert all(group["weight_decay"] == 0.0 and group["betas"] == (0.9, 0.999) for group in groups)
    expected = [run.model.denoiser.projections, run.prompts.tokens, run.prompts.contexts]
    assert [{id(p) for p in group["params"]} for group in groups] == [{id(p) for p in e.values()} for e in expected]
    assert sum(len(group["params"]) for group in groups) == len(trained(run)) == 6


def test_a_rate_of_zero_changes_nothing_bit_for_bit() -> None:
    run = toy(toy_settings(learning_rate=0.0, context_learning_rate=0.0), class_images=2)
    before = copies(trained(run))
    run_training(run, lambda number, loss: None)
    assert changed(before, trained(run)) == set()
    assert all(delta.abs().max() == 0 for delta in run.deltas().values())


@pytest.mark.parametrize(
    "rates, still",
    [
        ({"learning_rate": 0.0}, {"attn2.to_k", "attn2.to_v", "[T] clip_l"}),
        ({"context_learning_rate": 0.0}, {"[I] clip_l"}),
    ],
)
def test_each_rate_switches_its_own_group_off(rates: dict[str, float], still: set[str]) -> None:
    run = toy(toy_settings(**rates))
    before = copies(trained(run))
    run_training(run, lambda number, loss: None)
    assert changed(before, trained(run)) == set(before) - still


def test_the_same_seed_gives_the_same_bits() -> None:
    runs = [toy(class_images=2), toy(class_images=2)]
    losses = []
    for run in runs:
        torch.manual_seed(len(losses))  # the global generator must not matter
        losses.append(run_training(run, lambda number, loss: None))
    assert losses[0] == losses[1]
    assert changed(copies(trained(runs[0])), trained(runs[1])) == set()


def test_another_seed_gives_other_losses() -> None:
    losses = [run_training(toy(toy_settings(seed=seed)), lambda number, loss: None) for seed in (5, 6)]
    assert losses[0] != losses[1]


def test_training_leaves_the_global_random_state_alone() -> None:
    run = toy(class_images=2)
    state = torch.get_rng_state()
    run.step()
    run.evaluation_loss()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_anything_changes(value: float) -> None:
    run = toy(toy_settings(learning_rate=3e-4, context_learning_rate=7e-3))
    run.step()
    before, moments = copies(trained(run)), copies(run.optimizer.state[run.prompts.tokens["clip_l"]])
    run.references.latents.fill_(value)
    with pytest.raises(UserInputError) as refusal:
        run.step()
    assert "The training loss became nan" in str(refusal.value) or "became inf" in str(refusal.value)
    assert "Lower the learning rate (now 0.0003, contexts 0.007)" in str(refusal.value)
    assert "check the reference images" in str(refusal.value)
    assert changed(before, trained(run)) == set()
    assert changed(moments, run.optimizer.state[run.prompts.tokens["clip_l"]]) == set()


def test_deltas_are_what_training_added() -> None:
    run = toy()
    run_training(run, lambda number, loss: None)
    deltas = run.deltas()
    assert set(deltas) == {"attn2.to_k", "attn2.to_v"}
    for name, delta in deltas.items():
        assert (delta.dtype, delta.requires_grad) == (torch.float32, False)
        expected = run.model.denoiser.projections[name].detach() - run.model.denoiser.initial[name]
        # both weights are rounded to float32 before they are subtracted: 6e-8 of values up to 3
        torch.testing.assert_close(delta.double(), expected, atol=5e-7, rtol=0)
        assert delta.abs().max() > 1e-4


def test_detaching_the_first_token_blocks_its_gradient_only() -> None:
    projected = torch.randn(2, 5, 3, requires_grad=True)
    upstream = torch.randn(2, 5, 3)
    result = detach_first_token(projected)
    assert torch.equal(result, projected)
    result.backward(upstream)
    expected = upstream.clone()
    expected[:, 0] = 0.0
    assert projected.grad is not None
    assert torch.equal(projected.grad, expected)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_deck_deals_each_card_once_before_any_again(count: int) -> None:
    deck = Deck(5, torch.Generator().manual_seed(0))
    dealt = torch.cat([deck.draw(count) for _ in range(20)]).tolist()
    rounds = [dealt[start : start + 5] for start in range(0, len(dealt) - 4, 5)]
    assert all(sorted(cards) == [0, 1, 2, 3, 4] for cards in rounds)
    assert len({tuple(cards) for cards in rounds}) > 1, "each round is shuffled anew"


def test_a_run_calls_back_after_each_step_and_returns_the_losses() -> None:
    calls: list[tuple[int, float]] = []
    losses = run_training(toy(), lambda number, loss: calls.append((number, loss)))
    assert calls == [(1, losses[0]), (2, losses[1]), (3, losses[2])]


def test_what_the_callback_raises_ends_the_run_with_the_finished_steps_kept() -> None:
    class Cancelled(BaseException):
        pass

    def cancel(number: int, loss: float) -> None:
        if number == 2:
            raise Cancelled

    run, reference = toy(toy_settings(steps=50)), toy()
    with pytest.raises(Cancelled):
        run_training(run, cancel)
    reference.step()
    reference.step()
    assert changed(copies(trained(run)), trained(reference)) == set()
