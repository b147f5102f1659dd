"""Preview pictures on the host's models: when they come, that they change nothing, and that lack of memory skips them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.model_management
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training import networks
from comfyui_dci.nodes.host.training import preview as preview_module
from comfyui_dci.nodes.host.training.preview import PreviewPlan
from comfyui_dci.nodes.host.training.trainer import train_concept
from patcher_state import assert_unchanged, patcher_state
from training_runs import Watch, inputs, settings, train

from workbench.tiny import Tiny, tiny

pytestmark = pytest.mark.sweep


def watched(base: Tiny, plan: PreviewPlan, **changes: Any) -> tuple[Any, dict[int, torch.Tensor]]:
    watch, given = Watch(), replace(inputs(), keep_contexts=True)
    with torch.inference_mode():
        concept, _ = train_concept(HostModel(*base), given, settings(**changes), preview=plan, observer=watch)
    return concept, watch.pictures


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_previews_come_every_so_often_and_change_nothing(family: str) -> None:
    base = tiny(family)
    before = patcher_state(base.model)
    alone, _ = train(base)
    concept, pictures = watched(base, PreviewPlan(2), steps=4)
    short, _ = watched(base, PreviewPlan(1))
    assert list(pictures) == [2, 4]
    for picture in pictures.values():
        assert picture.shape == (64, 64, 3) and 0.0 <= picture.min() < picture.max() <= 1.0
    assert not torch.equal(pictures[2], pictures[4])
    assert all(torch.equal(alone.deltas[name], delta) for name, delta in short.deltas.items())
    assert all(torch.equal(alone.tokens[name], vectors) for name, vectors in short.tokens.items())
    assert_unchanged(base.model, before)


def test_the_prompt_is_what_is_drawn() -> None:
    base = tiny("sd1")
    usual, same, other = (
        watched(base, PreviewPlan(3, prompt))[1][3]
        for prompt in ("", "photo of a V* cat", "V* cat under water at night")
    )
    assert torch.equal(usual, same) and not torch.equal(usual, other)
    lower, twice = (watched(base, PreviewPlan(3, prompt))[1][3] for prompt in ("Photo of a v* cat", "V* cat by V* cat"))
    assert torch.equal(usual, lower) and not torch.equal(usual, twice)
    alone, both_alone = (watched(base, PreviewPlan(3, prompt))[1][3] for prompt in ("photo of a V*", "V* by V*"))
    assert torch.equal(usual, alone) and torch.equal(twice, both_alone)


def test_a_preview_without_memory_is_skipped_and_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(preview_module, "preview_latents", explode)
    concept, pictures = watched(tiny("sd1"), PreviewPlan(1))
    assert pictures == {} and concept.info.steps == 3
    assert "No preview after step 1: memory did not suffice" in caplog.text


def test_a_prompt_without_the_concept_is_refused_before_training() -> None:
    with pytest.raises(UserInputError, match=r"'a cat' does not contain V\*. Write V\* into it"):
        watched(tiny("sd1"), PreviewPlan(1, "a cat"))
    with pytest.raises(UserInputError, match=r"has 78 tokens, V\* counting 3; 75 fit. Shorten it"):
        watched(tiny("sd1"), PreviewPlan(1, "a V*" + " cat" * 74))
    with pytest.raises(UserInputError, match=r"'a V\* cat, dog.* has 79 tokens"):
        watched(tiny("sd1"), PreviewPlan(1, "a V*," + " dog" * 73))
    with pytest.raises(UserInputError, match="preview_every must be between"):
        PreviewPlan(-1)


def test_previews_are_drawn_by_the_network_in_training_and_no_other_is_made_or_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = tiny("sd1")
    made, loaded, load, unet = [], [], comfy.model_management.load_models_gpu, networks.UNetModel
    monkeypatch.setattr(networks, "UNetModel", lambda **config: made.append(1) or unet(**config))
    monkeypatch.setattr(
        comfy.model_management,
        "load_models_gpu",
        lambda models, *a, **k: loaded.extend(models) or load(models, *a, **k),
    )
    _, pictures = watched(base, PreviewPlan(1))
    assert len(pictures) == 3 and len(made) == 1
    assert {id(patcher) for patcher in loaded} == {id(base.vae.patcher)}
