"""The nodes, called as the host calls them, on tiny real objects."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nodes as host_nodes
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.dci_core.sampling.strength import StrengthSchedule as Schedule
from comfyui_dci.nodes import aux_prompt_builder
from comfyui_dci.nodes import concepts as concept_nodes
from comfyui_dci.nodes.apply_dci import ApplyDCI
from comfyui_dci.nodes.aux_prompt_builder import AuxPromptBuilder
from comfyui_dci.nodes.concepts import ApplyConcept, LoadConcept, SaveConcept
from comfyui_dci.nodes.dci_sampler import DCISampler
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.lambda_sweep import LambdaSweep
from comfyui_dci.nodes.mask_visualizer import MaskVisualizer
from comfyui_dci.nodes.strength_schedule import StrengthSchedule
from node_runs import required_defaults, run, run_bare, trained
from scenes import ksample, relative_difference, scene


def test_a_concept_goes_through_every_node(concepts: Path) -> None:
    base, (concept, losses, curve) = trained(
        class_noun="tortoise plushy",
        regularization_images=[torch.rand(2, 64, 64, 3)],
        regularization_captions="photo of a plushy",
        keep_contexts=True,
    )
    assert set(losses) == {"loss"} and len(losses["loss"]) == 2 and curve.shape == (1, 520, 840, 3)
    assert concept.info.settings["images"] == 3 and concept.info.settings["regularization_images"] == 2
    saved = run(SaveConcept, concept=concept, name="pets/tom", precision="float32")
    assert saved[1] == "pets/tom.safetensors" and (concepts / "pets" / "tom.safetensors").is_file()
    assert run(SaveConcept, concept=concept, name="pets/tom")[1] == "pets/tom_2.safetensors"
    (loaded,) = run(LoadConcept, name="pets/tom.safetensors").result
    assert torch.equal(loaded.tokens["clip_l"], concept.tokens["clip_l"]) and loaded.info == concept.info
    model, clip = run(ApplyConcept, model=base.model, clip=base.clip, concept=loaded)
    positive, concept_text, auxiliary_text = run(
        AuxPromptBuilder, clip=clip, prompt="a V* tortoise plushy at night", auxiliary_noun="cat"
    )
    assert (concept_text, auxiliary_text) == ("a V* tortoise plushy at night", "a cat at night")
    (negative,) = host_nodes.CLIPTextEncode().encode(clip, "blurry")
    common = {"positive": positive, "negative": negative, "latent_image": {"samples": torch.zeros(2, 4, 8, 8)}}
    latent, masks = run(DCISampler, model=model, seed=1, steps=8, active_fraction=0.3, **common)
    patched, other_masks = run(ApplyDCI, model=model, active_fraction=0.3)
    with torch.inference_mode():
        (same,) = host_nodes.KSampler().sample(
            patched, 1, 8, 7.0, "euler", "normal", positive, negative, common["latent_image"]
        )
        image = base.vae.decode(latent["samples"])
    assert torch.equal(latent["samples"], same["samples"])
    assert len(masks.calls) == len(other_masks.latest.calls) == 3
    picture, mask = run(MaskVisualizer, masks=masks, image=image).result
    _, no_masks = run(DCISampler, model=model, steps=2, **{**common, "active_fraction": 0.0})
    notice, black = run(MaskVisualizer, masks=no_masks, image=image).result
    assert notice.shape[0] == 1 and notice.shape[2] > 400
    assert black.shape == mask.shape == (2, 64, 64) and black.max() == 0 == mask.min() and mask.max() == 1
    assert picture.shape[0] == 2 and picture.shape[-1] == 3 and 0 <= picture.min() < picture.max() <= 1


def test_the_same_file_can_be_applied_twice_under_two_names() -> None:
    s = scene()
    model, clip = run(ApplyConcept, model=s.base.model, clip=s.base.clip, concept=s.concept)
    with pytest.raises(UserInputError, match="already knows a concept called V.*another placeholder"):
        run(ApplyConcept, model=model, clip=clip, concept=s.concept)
    _, clip = run(ApplyConcept, model=model, clip=clip, concept=s.concept, placeholder=" W* ")
    built = run(AuxPromptBuilder, clip=clip, prompt="a V* cat and a W* cat", auxiliary_noun="dog, bird")
    assert built[2] == "a dog and a bird"
    vectors = [clip.tokenize(text)["l"][0][1][0] for text in ("V*", "W*")]
    assert torch.equal(*vectors)
    with pytest.raises(UserInputError, match="The placeholder 'my cat' cannot be used"):
        run(ApplyConcept, model=model, clip=clip, concept=s.concept, placeholder="my cat")


def test_the_noun_that_a_prompt_leaves_out_is_added_told_and_left_out_on_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    s, told = scene(), []
    for module in (concept_nodes, aux_prompt_builder):
        monkeypatch.setattr(module, "text_of_node", lambda node: told.append)
    given = {"model": s.base.model, "clip": s.base.clip, "concept": s.concept}
    with caplog.at_level(logging.INFO, "comfyui_dci"):
        _, clip = run(ApplyConcept, **given)
        _, as_written = run(ApplyConcept, **given, add_class_noun=False, placeholder="W*")
    assert told == ['V* is read as "V* cat"', "W* is read as written, cat is not added"]
    assert 'DCI: V* is read as "V* cat"' in caplog.text
    told.clear()
    built = run(AuxPromptBuilder, clip=clip, prompt="a V* in times square", auxiliary_noun="dog")
    assert built[1:] == ("a V* cat in times square", "a dog in times square")
    assert told == ["read as: a V* cat in times square; auxiliary prompt: a dog in times square"]
    written = run(AuxPromptBuilder, clip=clip, auxiliary_noun="dog")
    assert written[1:] == built[1:] and torch.equal(written[0][0][0], built[0][0][0])
    assert told[1] == "auxiliary prompt: a dog in times square"  # in place of what was said of the last prompt
    assert run(AuxPromptBuilder, clip=as_written, prompt="a W* asleep", auxiliary_noun="dog")[1] == "a W* asleep"
    run(AuxPromptBuilder, clip=clip, prompt="a V* in times square")
    assert (
        told[-1].startswith("auxiliary noun ")
        and "; read as: a V* cat in times square; auxiliary prompt: a " in told[-1]
    )
    with torch.inference_mode():
        stock = [
            host_nodes.CLIPTextEncode().encode(clip, text)[0][0][0]
            for text in ("(V*:1.2) asleep", "(V* cat:1.2) asleep")
        ]
    assert torch.equal(*stock)


def test_masks_come_out_averaged_as_asked() -> None:
    s = scene()
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    _, masks = run(
        DCISampler,
        model=s.model,
        steps=6,
        active_fraction=0.4,
        positive=s.positive,
        negative=s.negative,
        latent_image=latent,
    )
    image = torch.rand(1, 128, 128, 3)

    def visualized(**choice: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return run(MaskVisualizer, masks=masks, image=image, contrast="absolute", **choice).result

    whole, everything = visualized(view="every call")
    assert torch.equal(everything, masks.average(128, 128))
    part, one = visualized(map_size="quarter", call=2, head=3, view="every call")
    torch.testing.assert_close(one[:, 0, 0], masks.calls[1].heads[4, 4][:, 2, 0, 0])
    assert part.shape[1] < whole.shape[1] and part.shape[2] < whole.shape[2]
    assert masks.latent_size == (16, 16) and masks.calls[0].heads[16, 16].shape == (1, 8, 16, 16)
    with pytest.raises(UserInputError, match="no call 4: the run had 2 active calls"):
        visualized(call=4)


def test_defaults_of_the_sampler_are_neutral_in_nothing_but_the_method() -> None:
    s = scene()
    common = {"positive": s.positive, "negative": s.negative, "latent_image": {"samples": torch.zeros(1, 4, 8, 8)}}
    with_dci, _ = run(DCISampler, model=s.model, seed=1, steps=8, **common)
    without, _ = run(DCISampler, model=s.model, seed=1, steps=8, **{**common, "active_fraction": 0.0})
    with torch.inference_mode():
        args = (s.model, 1, 8, 7.0, "euler", "normal", s.positive, s.negative, common["latent_image"])
        (stock,) = host_nodes.KSampler().sample(*args)
    assert torch.equal(without["samples"], stock["samples"])
    assert relative_difference(with_dci["samples"], stock["samples"]) > 1e-4


def test_graphs_of_the_api_may_leave_out_what_is_advanced() -> None:
    s = scene()
    given = {"positive": s.positive, "negative": s.negative, "latent_image": {"samples": torch.zeros(1, 4, 8, 8)}}
    given |= {"model": s.model, "steps": 4}
    usual, bare = (call(DCISampler, **given)[0]["samples"] for call in (run, run_bare))
    assert torch.equal(bare, usual)
    patched, _ = run_bare(ApplyDCI, model=s.model)
    assert torch.equal(ksample(patched, s.positive, s.negative, cfg=7.0, seed=0), usual)
    swept = run_bare(LambdaSweep, vae=s.base.vae, **{**given, "injection_strengths": "0"})[1]
    with torch.inference_mode():
        assert torch.equal(swept[-1:], s.base.vae.decode(usual))
    assert not {"blend", "mask_preset", "share_noise"} & set(required_defaults(DCISampler))


def test_the_schedule_and_the_mask_arrive_at_every_sampling_node() -> None:
    s = scene()
    offsets = {
        "full_maps": -1.0,
        "half_maps": 0.5,
        "quarter_maps": 1.5,
        "eighth_maps": 2.0,
        "at_start": 1.0,
        "at_end": -1.0,
    }
    (schedule,) = run(StrengthSchedule, **offsets).result
    assert schedule == Schedule(**offsets)
    mask = torch.zeros(1, 64, 64)
    mask[:, :40] = 1.0
    optional = {"strength_schedule": schedule, "auxiliary_mask": mask}
    settings = DCISettings(injection_strength=0.5, active_fraction=0.5, **optional)
    expected = ksample(apply_dci(s.model, settings)[0], s.positive, s.negative)
    for left_out in optional:
        less = DCISettings(
            injection_strength=0.5, active_fraction=0.5, **{k: v for k, v in optional.items() if k != left_out}
        )
        assert relative_difference(ksample(apply_dci(s.model, less)[0], s.positive, s.negative), expected) > 1e-5
    given = {"active_fraction": 0.5, **optional}
    as_ksample = {
        "seed": 3,
        "steps": 4,
        "cfg": 5.0,
        "positive": s.positive,
        "negative": s.negative,
        "latent_image": {"samples": torch.zeros(1, 4, 8, 8)},
    }
    sampled, _ = run(DCISampler, model=s.model, injection_strength=0.5, **as_ksample, **given)
    patched, _ = run(ApplyDCI, model=s.model, injection_strength=0.5, **given)
    assert torch.equal(sampled["samples"], expected)
    assert torch.equal(ksample(patched, s.positive, s.negative), expected)
    images = run(
        LambdaSweep, model=s.model, vae=s.base.vae, injection_strengths="0.5", seed_count=1, **as_ksample, **given
    )[1]
    with torch.inference_mode():
        assert torch.equal(images[-1:], s.base.vae.decode(expected))


def test_a_name_out_of_the_folder_is_refused_before_anything_runs() -> None:
    assert "cannot be a file" in SaveConcept.validate_inputs(name="../x")
    assert SaveConcept.validate_inputs(name="cat") is True and SaveConcept.validate_inputs(name=None) is True


def test_a_changed_concept_file_is_read_again(concepts: Path) -> None:
    _, (concept, *_) = trained()
    run(SaveConcept, concept=concept, name="tom")
    first = LoadConcept.fingerprint_inputs(name="tom.safetensors")
    assert LoadConcept.fingerprint_inputs(name="tom.safetensors") == first
    run(SaveConcept, concept=concept, name="tom", precision="float32", overwrite=True)
    assert LoadConcept.fingerprint_inputs(name="tom.safetensors") != first
