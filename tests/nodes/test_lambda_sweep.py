"""A λ sweep is DCI Sampler with each λ, bit for bit, but does the shared work once."""

from __future__ import annotations

from typing import Any

import nodes as host_nodes
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.images.crop import thumbnail_of
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes import lambda_sweep
from comfyui_dci.nodes.dci_sampler import DCISampler
from comfyui_dci.nodes.host.carried import carry
from comfyui_dci.nodes.host.sampling.auxiliary_memory import AuxiliaryMemory
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.image_folder import LoadImageFolder
from comfyui_dci.nodes.lambda_sweep import LambdaSweep
from node_runs import run
from running_graph import register, run_in
from scenes import dci, ksample, scene

pytestmark = pytest.mark.sweep

STRENGTHS = (0.0, 0.8, 1.5)


def inputs(**changes: Any) -> dict[str, Any]:
    s = scene("mini")
    common = {"model": s.model, "positive": s.positive, "negative": s.negative, "seed": 3, "steps": 6, "cfg": 5.0}
    return {**common, "latent_image": {"samples": torch.zeros(1, 4, 8, 8)}, "active_fraction": 0.7, **changes}


def sweep(**changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    strengths = ", ".join(map(str, STRENGTHS))
    return run(LambdaSweep, vae=scene("mini").base.vae, injection_strengths=strengths, **inputs(**changes)).result


def separately(**changes: Any) -> torch.Tensor:
    """Return what the single nodes give: KSampler without DCI, then DCI Sampler with each λ."""
    values = inputs(**changes)
    settings = ("active_fraction", "share_guidance")
    plain = {key: value for key, value in values.items() if key not in settings}
    order = ("model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image")
    plain = {"sampler_name": "euler", "scheduler": "normal", **plain}
    with torch.inference_mode():
        latents = list(host_nodes.common_ksampler(*(plain[name] for name in order)))
        latents += [run(DCISampler, injection_strength=value, **values)[0] for value in STRENGTHS]
        return torch.cat([host_nodes.VAEDecode().decode(scene("mini").base.vae, latent)[0] for latent in latents])


def forwards(model: Any) -> tuple[Any, list[int]]:
    """Return a clone of a model, and the rows of every forward of its network."""
    clone, rows = model.clone(), []

    def count(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        rows.append(x.shape[0])
        return executor(x, *args, **kwargs)

    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", count)
    return clone, rows


@pytest.mark.parametrize(
    ("sampler_name", "share_guidance"),
    [("euler", True), ("euler", False), ("heun", True), ("heun", False), ("dpmpp_2m_sde", False), ("dpm_fast", True)],
)
def test_each_image_is_the_one_of_the_single_nodes(sampler_name: str, share_guidance: bool) -> None:
    changes = {"sampler_name": sampler_name, "share_guidance": share_guidance}
    _, images = sweep(**changes)
    assert torch.equal(images, separately(**changes))
    assert all(not torch.equal(images[i], images[j]) for i in range(4) for j in range(i))


def test_without_guidance_and_in_painting_too() -> None:
    half = torch.zeros(1, 64, 64)
    half[:, :, 32:] = 1.0
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), "noise_mask": half}
    for changes in ({"cfg": 1.0}, {"latent_image": latent}):
        assert torch.equal(sweep(**changes)[1], separately(**changes))


@pytest.mark.parametrize(("share_guidance", "repeated"), [(False, 0), (True, 3)])
def test_auxiliary_passes_that_do_not_depend_on_the_strength_run_once(share_guidance: bool, repeated: int) -> None:
    model, rows = forwards(scene("mini").model)
    sweep(model=model, share_guidance=share_guidance)
    active, steps, runs = 4, 6, 1 + len(STRENGTHS)
    assert len(rows) == runs * steps + active + (len(STRENGTHS) - 1) * repeated


def test_each_seed_is_a_row_of_its_own() -> None:
    grid, images = sweep(seed_count=2, seed=0xFFFFFFFFFFFFFFFF)
    assert torch.equal(images[:4], separately(seed=0xFFFFFFFFFFFFFFFF)) and torch.equal(images[4:], separately(seed=0))
    one, _ = sweep()
    assert grid.shape[0] == 1 and grid.shape[1] > one.shape[1] > 64


def test_each_image_of_a_batch_is_a_row_of_its_own() -> None:
    batch = {"latent_image": {"samples": torch.zeros(2, 4, 8, 8)}}
    _, images = sweep(**batch)
    expected = separately(**batch).unflatten(0, (4, 2)).transpose(0, 1).flatten(0, 1)
    assert torch.equal(images, expected)


def test_bad_values_are_refused_before_anything_runs() -> None:
    model, rows = forwards(scene("mini").model)
    assert "holds 'much'" in LambdaSweep.validate_inputs(injection_strengths="0, much")
    assert LambdaSweep.validate_inputs(injection_strengths="0, 1") is True
    assert LambdaSweep.validate_inputs(injection_strengths=None) is True  # linked
    with pytest.raises(UserInputError, match="holds 'much'"):
        run(LambdaSweep, vae=scene("mini").base.vae, injection_strengths="0, much", **inputs(model=model))
    with pytest.raises(UserInputError, match="already carries Apply DCI"):
        sweep(model=dci(model))
    assert rows == []


def test_a_run_on_its_own_keeps_nothing() -> None:
    model, rows = forwards(scene("mini").model)
    patched = dci(model, active_fraction=0.7)
    for _ in range(2):
        ksample(patched, scene("mini").positive, scene("mini").negative, steps=6)
    assert len(rows) == 2 * (6 + 4)


@pytest.mark.parametrize("share_guidance", [True, False])
def test_what_is_kept_is_used_for_exactly_the_same_input_only(share_guidance: bool) -> None:
    s, memory = scene("mini"), AuxiliaryMemory()
    settings = DCISettings(active_fraction=0.7, share_guidance=share_guidance)
    remembering, _ = apply_dci(s.model, settings, memory)
    for seed, size in ((3, 8), (4, 8), (3, 16), (3, 8)):  # the same noise levels, other noise
        options = {"seed": seed, "size": size, "steps": 5}
        alone = ksample(apply_dci(s.model, settings)[0], s.positive, s.negative, **options)
        assert torch.equal(ksample(remembering, s.positive, s.negative, **options), alone)


def test_a_cancelled_first_run_leaves_passes_that_are_right() -> None:
    s, memory = scene("mini"), AuxiliaryMemory()
    settings = DCISettings(active_fraction=0.7, share_guidance=False)
    with pytest.raises(KeyboardInterrupt):
        ksample(apply_dci(_failing_at(s.model, 2), settings, memory)[0], s.positive, s.negative)
    expected = ksample(apply_dci(s.model, settings)[0], s.positive, s.negative)
    assert torch.equal(ksample(apply_dci(s.model, settings, memory)[0], s.positive, s.negative), expected)


def _failing_at(model: Any, call: int) -> Any:
    clone, calls = model.clone(), []

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return executor(*args, **kwargs)

    clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "test", wrapper)
    return clone


def test_the_node_says_what_each_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(lambda_sweep, "text_of_node", lambda node: told.append)
    sweep(seed_count=2)
    lines = told[-1].splitlines()
    assert [line.split(":")[0] for line in lines] == ["λ 0", "λ 0.8", "λ 1.5"]
    assert all("of the say" in line for line in lines) and len(set(lines)) == 3
    assert len(told) == 2 * len(STRENGTHS)


def drawn_references(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[torch.Tensor]:
    """What the grid of a sweep is given for its left column."""
    given: list[torch.Tensor] = []

    def draw(rows: Any, columns: Any, labels: Any, caption: str, references: list[torch.Tensor]) -> torch.Tensor:
        given.extend(references)
        return torch.zeros(8, 8, 3)

    monkeypatch.setattr(lambda_sweep, "draw_sweep", draw)
    sweep(**changes)
    return given


def test_the_grid_shows_the_references_or_else_the_picture_that_the_concept_brings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photographs = torch.rand(3, 16, 24, 3)
    assert torch.equal(torch.stack(drawn_references(monkeypatch, references=photographs)), photographs)
    model = scene("mini").model.clone()
    carry(model, "mark", thumbnail_of(torch.full((32, 32, 3), 0.5)))
    carry(model, "another", "data:image/jpeg;base64,nothing")
    (picture,) = drawn_references(monkeypatch, model=model)
    assert picture.shape == (256, 256, 3) and (picture - 0.5).abs().max() < 0.02
    bare = scene("mini").base.model
    assert drawn_references(monkeypatch, model=bare) == []


def test_a_list_of_references_is_refused_before_anything_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, LoadImageFolder)
    graph = {
        "folder": {"class_type": "DCILoadImageFolder", "inputs": {"folder": "pets"}},
        "sweep": {"class_type": "DCILambdaSweep", "inputs": {"references": ["folder", 0]}},
    }
    with pytest.raises(
        UserInputError, match=r"a list of images \(node folder, DCILoadImageFolder\).* Connect one batch"
    ):
        run_in(monkeypatch, graph, "sweep", LambdaSweep, vae=scene("mini").base.vae, **inputs())
