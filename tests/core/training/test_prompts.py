"""The prompts of a run: whose words and vectors stand in them, and where they end."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.concept_training import ConceptTraining
from comfyui_dci.dci_core.training.prompts import PromptParts
from comfyui_dci.dci_core.training.run import run_training
from torch import Tensor
from toy_training import WIDTH, changed, copies, toy, toy_settings, trained


def test_captions_teach_keys_and_values_but_not_the_concept() -> None:
    def gradients(caption_scale: float) -> dict[str, Tensor]:
        run = toy(class_images=2)
        assert run.regularization is not None
        run.regularization.text.context.mul_(caption_scale)
        run.step()
        return {name: value.grad.clone() for name, value in trained(run).items() if value.grad is not None}

    one, other = gradients(1.0), gradients(-0.5)
    assert changed(one, other) == {"attn2.to_k", "attn2.to_v"}


def test_given_vectors_are_copied_not_trained_in_place() -> None:
    tokens, contexts = {"clip_l": torch.randn(2, WIDTH).double()}, {"clip_l": torch.randn(3, 2, WIDTH).double()}
    given = copies(tokens) | {"contexts": contexts["clip_l"].clone()}
    base = toy()
    run = ConceptTraining(base.settings, base.model, PromptParts(base.prompts.words, tokens, contexts), base.references)
    run.step()
    assert torch.equal(tokens["clip_l"], given["clip_l"])
    assert torch.equal(contexts["clip_l"], given["contexts"])
    assert not torch.equal(run.prompts.tokens["clip_l"], given["clip_l"])


def test_a_scheme_without_contexts_trains_like_custom_diffusion() -> None:
    run = toy(toy_settings(scheme=ICOScheme(0, 0, 1)))
    before = copies(trained(run))
    run_training(run, lambda number, loss: None)
    assert changed(before, trained(run)) == {"attn2.to_k", "attn2.to_v", "[T] clip_l"}


def test_the_encoder_is_told_where_the_prompt_ends() -> None:
    run = toy(toy_settings(scheme=ICOScheme(2, 1, 1)))
    run.step()
    prompts, ends = run.model.encoder.seen[0]
    assert ends == [6, 6]  # BOS [I] [I] [T] [E] [I] EOS
    assert torch.equal(prompts["clip_l"][:, 6], run.prompts.words["clip_l"].end.expand(2, -1))


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
        prompts, told = run.model.encoder.seen[-1]
        for row, (image, end) in enumerate(zip(drawn.tolist(), told)):
            ends[image] = end
            for name, words in run.prompts.words.items():
                assert torch.equal(prompts[name][row, 4:end], captions[name][image])
                assert torch.equal(prompts[name][row, end], words.end)
                assert (prompts[name][row, end + 1 :] == words.padding).all()
        text = run.model.denoiser.seen[-1][2]
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
