"""ICO training on a toy network, see ``toy_training``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.concept_training import ConceptTraining, detach_first_token
from comfyui_dci.dci_core.training.data import Deck, TextConditioning
from comfyui_dci.dci_core.training.diffusion import Prediction
from comfyui_dci.dci_core.training.run import run_training
from comfyui_dci.dci_core.training.settings import TrainingSettings
from torch import Tensor
from toy_training import TIMESTEPS, WIDTH, changed, copies, frozen, toy, toy_settings, trained


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
    start = run.contexts["clip_l"].detach().clone()
    drawn: list[int] = []
    for step in range(1, 6):
        run.step()
        gradient = run.contexts["clip_l"].grad
        assert gradient is not None
        rows = gradient.abs().sum(dim=(1, 2)).nonzero().flatten().tolist()
        assert len(rows) == 1
        drawn += rows
        moved = [not torch.equal(new, old) for new, old in zip(run.contexts["clip_l"], start)]
        assert [row for row in range(5) if moved[row]] == sorted(drawn)
        assert len(set(drawn)) == step, "each image comes once before any comes again"


def test_every_image_is_trained_with_its_own_contexts() -> None:
    """Without noise the network sees the clean latents, so image and prompt can be told by their values."""
    run = toy(toy_settings(batch_size=2, learning_rate=0.0, context_learning_rate=0.0), images=5)
    run.sigmas = torch.zeros(TIMESTEPS, dtype=torch.float64)
    for image in range(5):
        run.references.latents[image] = image
        with torch.no_grad():
            run.contexts["clip_l"][image] = 10.0 + image
    for _ in range(5):
        run.step()
    drawn = []
    for (noisy, _, _), (prompts, (end, _)) in zip(run.denoiser.seen, run.encoder.seen):
        assert torch.equal(noisy[:, 0, 0, 0], prompts["clip_l"][:, 1, 0] - 10.0)  # [I]_1 stands behind BOS
        assert torch.equal(prompts["clip_l"][:, 1], prompts["clip_l"][:, end - 1])  # the last one before EOS
        drawn += noisy[:, 0, 0, 0].tolist()
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_class_images_follow_the_references_with_the_captions_they_own() -> None:
    run = toy(toy_settings(batch_size=2, learning_rate=0.0, context_learning_rate=0.0), class_images=4, pooled=True)
    assert run.regularization is not None
    assert run.regularization.text.pooled is not None
    run.sigmas = torch.zeros(TIMESTEPS, dtype=torch.float64)
    for image in range(4):
        for tensor in (run.regularization.latents, run.regularization.text.context, run.regularization.text.pooled):
            tensor[image] = 100.0 + image
    for _ in range(2):
        run.step()
    drawn = []
    for noisy, timesteps, text in run.denoiser.seen:
        assert noisy.shape[0] == timesteps.shape[0] == 4
        assert text.pooled is not None
        assert (noisy[:2] < 100).all()
        assert torch.equal(noisy[2:, 0, 0, 0], text.context[2:, 3, 1])
        assert torch.equal(noisy[2:, 0, 0, 0], text.pooled[2:, 0])
        drawn += noisy[2:, 0, 0, 0].tolist()
    assert sorted(drawn) == [100.0, 101.0, 102.0, 103.0]


def test_captions_teach_keys_and_values_but_not_the_concept() -> None:
    def gradients(caption_scale: float) -> dict[str, Tensor]:
        run = toy(class_images=2)
        assert run.regularization is not None
        run.regularization.text.context.mul_(caption_scale)
        run.step()
        return {name: value.grad.clone() for name, value in trained(run).items() if value.grad is not None}

    one, other = gradients(1.0), gradients(-0.5)
    assert changed(one, other) == {"attn2.to_k", "attn2.to_v"}


@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_network_is_told_the_timestep_of_the_noise_it_sees(prediction: Prediction) -> None:
    """With black images a network that knows σ from its timestep can predict perfectly: the loss is zero."""
    run = toy(toy_settings(learning_rate=0.0), prediction=prediction)
    run.references.latents.zero_()
    learned = run.denoiser.key_values["attn2.to_k"]

    class Oracle:
        key_values = run.denoiser.key_values

        def __call__(self, noisy: Tensor, timesteps: Tensor, text: TextConditioning) -> Tensor:
            sigma = run.sigmas[timesteps].view(-1, 1, 1, 1)
            velocity = noisy / sigma  # x₀ = 0: x_t = σε/√(1+σ²) and v = ε/√(1+σ²)
            factor = (1 + sigma**2).sqrt() if prediction is Prediction.EPSILON else 1.0
            return velocity * factor + 0.0 * learned.sum()

    run.denoiser = Oracle()
    assert run.step() == pytest.approx(0.0, abs=1e-28)


def test_all_timesteps_are_trained() -> None:
    run = toy(toy_settings(learning_rate=0.0, context_learning_rate=0.0))
    for _ in range(200):
        run.step()
    assert {int(t) for _, timesteps, _ in run.denoiser.seen for t in timesteps} == set(range(TIMESTEPS))


@pytest.mark.parametrize("variants, expected", [(1, {0.0}), (2, {0.0, 1.0})])
def test_mirrored_images_are_used_when_there_are_any(variants: int, expected: set[float]) -> None:
    run = toy(toy_settings(learning_rate=0.0, context_learning_rate=0.0), variants=variants)
    run.sigmas = torch.zeros(TIMESTEPS, dtype=torch.float64)
    for variant in range(variants):
        run.references.latents[:, variant] = variant
    for _ in range(20):
        run.step()
    assert {value.item() for noisy, _, _ in run.denoiser.seen for value in noisy.unique()} == expected


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
    expected = [run.denoiser.key_values, run.tokens, run.contexts]
    assert [{id(p) for p in group["params"]} for group in groups] == [{id(p) for p in e.values()} for e in expected]
    assert sum(len(group["params"]) for group in groups) == len(trained(run)) == 6


def test_a_rate_of_zero_changes_nothing_bit_for_bit() -> None:
    run = toy(toy_settings(learning_rate=0.0, context_learning_rate=0.0), class_images=2)
    before = copies(trained(run))
    run_training(run, lambda number, loss: None)
    assert changed(before, trained(run)) == set()
    assert all(delta.abs().max() == 0 for delta in run.key_value_deltas().values())


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
    before, moments = copies(trained(run)), copies(run.optimizer.state[run.tokens["clip_l"]])
    run.references.latents.fill_(value)
    with pytest.raises(UserInputError) as refusal:
        run.step()
    assert "The training loss became nan" in str(refusal.value) or "became inf" in str(refusal.value)
    assert "Lower the learning rate (now 0.0003, contexts 0.007)" in str(refusal.value)
    assert "check the reference images" in str(refusal.value)
    assert changed(before, trained(run)) == set()
    assert changed(moments, run.optimizer.state[run.tokens["clip_l"]]) == set()


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
    whole, with_contexts = run.encoder.seen[:], run.denoiser.seen[:]
    run.encoder.seen.clear()
    run.denoiser.seen.clear()
    assert run.evaluation_loss_without_contexts(draws=2) is not None
    for (prompts, ends), (whole_prompts, whole_ends) in zip(run.encoder.seen, whole, strict=True):
        assert ends == [end - 2 for end in whole_ends]
        for name, words in run.words.items():
            for row, end in enumerate(ends):
                prompt, full = prompts[name][row], whole_prompts[name][row]
                assert torch.equal(prompt[:3], torch.cat([full[:1], full[2:4]]))  # BOS [T] [E]: without [I] at 1
                assert torch.equal(prompt[3 : end + 1], full[5 : end + 3])  # caption EOS: without [I] at 4
                assert (prompt[end + 1 :] == words.padding).all() and prompt.shape == full.shape
    for (noisy, timesteps, text), (same, same_timesteps, _) in zip(run.denoiser.seen, with_contexts, strict=True):
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
    plain.contexts = {name: vectors[:, :0] for name, vectors in run.contexts.items()}  # type: ignore[misc]
    plain.settings = toy_settings(scheme=ICOScheme(0, 0, 2))
    plain.end_positions = [end - 2 for end in run.end_positions]
    assert run.evaluation_loss_without_contexts() == plain.evaluation_loss() != run.evaluation_loss()


def test_the_change_of_a_run_is_its_deltas_by_what_it_began_with() -> None:
    run = toy(toy_settings(ema_decay=0.9))
    assert run.key_value_change() == 0.0
    run_training(run, lambda number, loss: None)
    with run.result():
        moved = torch.cat([(run.denoiser.key_values[n] - w).flatten() for n, w in run.denoiser.initial.items()])
    before = torch.cat([weight.flatten() for weight in run.denoiser.initial.values()])
    assert run.key_value_change() == pytest.approx((moved.norm() / before.norm()).item(), rel=1e-3) != 0


def test_the_evaluation_loss_looks_at_the_references_only() -> None:
    assert toy(class_images=2).evaluation_loss() == toy().evaluation_loss()


def test_the_evaluation_loss_is_the_mean_over_its_draws() -> None:
    """With one image and σ so large that v is -x₀, each draw's loss follows from what the network saw."""
    run = toy(images=1, variants=1, prediction=Prediction.V)
    run.sigmas = torch.full((1,), 1e6, dtype=torch.float64)
    one, many = run.evaluation_loss(draws=1), run.evaluation_loss(draws=4)
    per_draw = []
    for noisy, timesteps, text in run.denoiser.seen[1:]:
        target = -run.references.latents[0, 0]
        per_draw.append(((run.denoiser(noisy, timesteps, text) - target) ** 2).mean().item())
    assert many == pytest.approx(sum(per_draw) / 4, rel=1e-4)
    assert one == pytest.approx(per_draw[0], rel=1e-4)


@pytest.mark.parametrize("prediction", list(Prediction))
def test_training_lowers_the_evaluation_loss(prediction: Prediction) -> None:
    run = toy(toy_settings(steps=80, learning_rate=2e-2, context_learning_rate=5e-2), prediction=prediction)
    before = run.evaluation_loss()
    run_training(run, lambda number, loss: None)
    assert run.evaluation_loss() < 0.7 * before


def test_deltas_are_what_training_added() -> None:
    run = toy()
    run_training(run, lambda number, loss: None)
    deltas = run.key_value_deltas()
    assert set(deltas) == {"attn2.to_k", "attn2.to_v"}
    for name, delta in deltas.items():
        assert (delta.dtype, delta.requires_grad) == (torch.float32, False)
        expected = run.denoiser.key_values[name].detach() - run.denoiser.initial[name]
        # both weights are rounded to float32 before they are subtracted: 6e-8 of values up to 3
        torch.testing.assert_close(delta.double(), expected, atol=5e-7, rtol=0)
        assert delta.abs().max() > 1e-4


def test_given_vectors_are_copied_not_trained_in_place() -> None:
    tokens, contexts = {"clip_l": torch.randn(2, WIDTH).double()}, {"clip_l": torch.randn(3, 2, WIDTH).double()}
    given = copies(tokens) | {"contexts": contexts["clip_l"].clone()}
    base = toy()
    run = ConceptTraining(
        base.settings,
        base.denoiser,
        base.encoder,
        base.sigmas,
        base.prediction,
        base.words,
        tokens,
        contexts,
        base.references,
    )
    run.step()
    assert torch.equal(tokens["clip_l"], given["clip_l"])
    assert torch.equal(contexts["clip_l"], given["contexts"])
    assert not torch.equal(run.tokens["clip_l"], given["clip_l"])


def test_a_scheme_without_contexts_trains_like_custom_diffusion() -> None:
    run = toy(toy_settings(scheme=ICOScheme(0, 0, 1)))
    before = copies(trained(run))
    run_training(run, lambda number, loss: None)
    assert changed(before, trained(run)) == {"attn2.to_k", "attn2.to_v", "[T] clip_l"}


def test_the_encoder_is_told_where_the_prompt_ends() -> None:
    run = toy(toy_settings(scheme=ICOScheme(2, 1, 1)))
    run.step()
    prompts, ends = run.encoder.seen[0]
    assert ends == [6, 6]  # BOS [I] [I] [T] [E] [I] EOS
    assert torch.equal(prompts["clip_l"][:, 6], run.words["clip_l"].end.expand(2, -1))


def test_every_image_is_trained_with_its_own_caption_and_pooled_at_its_own_end() -> None:
    given = toy_settings(scheme=ICOScheme(1, 0, 1))  # BOS [I] [T] [E] caption EOS
    captions = {name: [torch.randn(count, WIDTH).double() for count in (0, 2, 3)] for name in ("clip_l", "clip_g")}
    run = toy(given, names=("clip_l", "clip_g"), pooled=True, captions=captions)
    ends: dict[int, int] = {}
    for _ in range(3):
        run.decks["references"].cards = []
        drawn = run.decks["references"].draw(2)
        run.decks["references"].cards += drawn.flip(0).tolist()
        run.step()
        prompts, told = run.encoder.seen[-1]
        for row, (image, end) in enumerate(zip(drawn.tolist(), told)):
            ends[image] = end
            for name, words in run.words.items():
                assert torch.equal(prompts[name][row, 4:end], captions[name][image])
                assert torch.equal(prompts[name][row, end], words.end)
                assert (prompts[name][row, end + 1 :] == words.padding).all()
        text = run.denoiser.seen[-1][2]
        assert torch.equal(text.pooled, text.context[range(2), told])
    assert ends == {0: 4, 1: 6, 2: 7}
    run.evaluation_loss(draws=2)


def test_empty_captions_are_today_s_training_bit_for_bit() -> None:
    none = {"clip_l": [torch.zeros(0, WIDTH).double()] * 3}
    runs = [toy(toy_settings(steps=4)), toy(toy_settings(steps=4), captions=none)]
    losses = [run_training(run, lambda number, loss: None) for run in runs]
    assert losses[0] == losses[1] and changed(copies(trained(runs[0])), trained(runs[1])) == set()
    other = toy(toy_settings(steps=4), captions={"clip_l": [torch.ones(1, WIDTH).double()] * 3})
    assert run_training(other, lambda number, loss: None) != losses[0]


def test_a_prompt_that_does_not_fit_is_refused_before_training() -> None:
    with pytest.raises(UserInputError, match="needs 10 tokens, the text encoder takes 8"):
        toy(toy_settings(scheme=ICOScheme(2, 2, 3)))


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


def test_the_default_settings_are_those_of_the_method() -> None:
    settings = TrainingSettings()
    assert (settings.steps, settings.batch_size, settings.learning_rate) == (900, 2, 6e-5)
    assert (settings.context_learning_rate, settings.flip, settings.scheme) == (6e-4, True, ICOScheme(1, 1, 3))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"steps": 0}, "steps must be between 1 and 100000, but got 0."),
        ({"steps": 100_001}, "steps must be between 1 and 100000, but got 100001."),
        ({"batch_size": 0}, "batch_size must be between 1 and 64, but got 0."),
        ({"batch_size": 65}, "batch_size must be between 1 and 64, but got 65."),
        (
            {"learning_rate": -1e-5},
            "learning_rate must be between 0 and 1, but got -1e-05. 6e-05 (context 0.0006) suits SD1.x",
        ),
        ({"learning_rate": 2.0}, "learning_rate must be between 0 and 1, but got 2.0."),
        ({"learning_rate": float("nan")}, "learning_rate must be between 0 and 1, but got nan."),
        ({"context_learning_rate": 1.5}, "context_learning_rate must be between 0 and 1, but got 1.5."),
    ],
)
def test_settings_outside_their_ranges_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError) as refusal:
        TrainingSettings(**wrong)
    assert message in str(refusal.value)
