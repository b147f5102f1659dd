"""A run in its phases: before its sampler starts, up to its first active call, in the active part and after it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from types import SimpleNamespace
from typing import Any

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfyui_dci.dci_core.families import FAMILIES
from comfyui_dci.dci_core.sampling.branches import auxiliary_noise, sigma_at_end
from comfyui_dci.dci_core.sampling.run_masks import RunMasks
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.auxiliary_branch import AuxiliaryBranch
from comfyui_dci.nodes.host.sampling.auxiliary_memory import AuxiliaryMemory
from comfyui_dci.nodes.host.sampling.pairing import AUXILIARY, OwnControls
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.host.sampling.run import Run
from comfyui_dci.nodes.host.sampling.session import RunPlan, Session
from comfyui_dci.nodes.host.sampling.start import RunStart
from sampled import sample_guider
from scenes import dci, ksample, scene


def start_at(timesteps: list[float], active_fraction: float = 0.5) -> RunStart:
    """A start at noise levels of the tiny model, the last one 0."""
    sampling = scene().model.get_model_object("model_sampling")
    sigmas = [float(sampling.sigma(torch.tensor(timestep))) for timestep in timesteps] + [0.0]
    noise = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(1))
    return RunStart(
        noise=noise,
        latent_image=torch.zeros_like(noise),
        mask=None,
        sigmas=torch.tensor(sigmas),
        seed=3,
        has_full_noise=False,
        sigma_end=sigma_at_end(sigmas[:3], active_fraction, sampling.percent_to_sigma),
        model_sampling=sampling,
    )


def test_a_start_counts_its_active_steps_and_its_progress() -> None:
    start = start_at([999.0, 800.0, 600.0, 400.0, 200.0])
    assert (start.steps, start.active_steps, start.latent_size) == (5, 3, (8, 6))
    assert [start.is_active(sigma) for sigma in start.sigmas.tolist()] == [True, True, True, False, False, False]
    assert start.timestep(start.first_sigma) == pytest.approx(999.0)
    progress = [start.progress(timestep) for timestep in (999.0, 749.25, 499.5, 100.0)]
    assert progress == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-3)


def test_a_start_is_noised_as_the_host_does_it_and_never_changed() -> None:
    start = start_at([999.0, 500.0])
    before = start.noise.clone()
    assert torch.equal(start.noised(start.noise), start.noise * start.sigmas[0])
    assert torch.equal(start.noise, before)
    with pytest.raises(FrozenInstanceError):
        start.seed = 4  # which is what the test is about


def test_a_session_without_a_run_answers_plainly_and_takes_its_twins_away() -> None:
    plan = RunPlan(DCISettings(), {("middle", 0, 0): 3}, FAMILIES["sd1"], RunMasks(), AuxiliaryMemory())
    guider = SimpleNamespace(conds={"positive": [], AUXILIARY: []})
    session = Session(plan, guider, 1, OwnControls())
    latent, timestep = torch.zeros(1, 4, 8, 8), torch.ones(1)
    seen: list[Any] = []
    session.predict(lambda *given: seen.append(given), latent, timestep, {}, 5)
    assert seen == [(latent, timestep, {}, 5)]
    session.end()
    assert guider.conds == {"positive": []}


def watched(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[dict[str, Any]]:
    """What the run and its branch held after each model call of a sampler that looks twice at a noise level."""
    seen: list[dict[str, Any]] = []
    predict = Run.predict

    def watch(run: Run, executor: Any, x: torch.Tensor, timestep: torch.Tensor, *rest: Any) -> torch.Tensor:
        made = "branch" in vars(run)
        output = predict(run, executor, x, timestep, *rest)
        sigma, branch = float(timestep[0]), run.branch
        recorded = branch.is_recorded_at(sigma)
        state = {"active": run.start.is_active(sigma), "made": made, "recorded": recorded, "passes": branch.passes}
        state |= {"records": len(branch.records), "shared": branch.shared.were_used, "names": set(vars(branch))}
        seen.append({**state, "sigma": sigma, "branch": branch})
        return output

    monkeypatch.setattr(Run, "predict", watch)
    s = scene()
    ksample(dci(s.model, **settings), s.positive, s.negative, "heun", steps=5)
    return seen


@pytest.mark.parametrize("share_guidance", [True, False])
def test_the_branch_is_made_at_the_first_active_call_and_records_once_a_noise_level(
    monkeypatch: pytest.MonkeyPatch, share_guidance: bool
) -> None:
    seen = watched(monkeypatch, share_guidance=share_guidance)
    assert [state["made"] for state in seen] == [False] + [True] * (len(seen) - 1)
    active = [state for state in seen if state["active"]]
    assert all(state["recorded"] and state["records"] == 16 for state in active)
    assert active[-1]["passes"] == len({state["sigma"] for state in active}) < len(active)
    assert all(state["shared"] == share_guidance for state in active)
    after = seen[len(active) :]
    assert after and not any(state["recorded"] or state["records"] for state in after)


def test_all_that_a_branch_holds_is_born_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    born: list[set[str]] = []
    make = AuxiliaryBranch.__init__

    def watch(branch: AuxiliaryBranch, *args: Any) -> None:
        make(branch, *args)
        born.append(set(vars(branch)))

    monkeypatch.setattr(AuxiliaryBranch, "__init__", watch)
    seen = watched(monkeypatch, auxiliary_eta=1.0)
    assert len(born) == 1 and all(state["names"] == born[0] for state in seen)


def test_a_new_branch_stands_at_the_runs_start_with_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[Any] = []
    move = AuxiliaryBranch.move

    def watch(branch: AuxiliaryBranch, *args: Any) -> None:
        moves.append((branch.sigma, branch.x, branch.start, branch.passes, branch.is_recorded_at(branch.sigma)))
        move(branch, *args)

    monkeypatch.setattr(AuxiliaryBranch, "move", watch)
    s = scene()
    ksample(dci(s.model), s.positive, s.negative, batch=2)
    sigma, x, start, passes, recorded = moves[0]
    assert sigma == start.first_sigma and passes == 0 and not recorded
    assert torch.equal(x, start.noised(auxiliary_noise(start.noise, 3)))


def started_again(model: Any) -> Any:
    """A clone of a model whose samplers are started twice."""

    def again(executor: Any, *args: Any, **kwargs: Any) -> Any:
        executor(*args, **kwargs)
        return executor(*args, **kwargs)

    twice = model.clone()
    twice.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "again", again)
    return twice


def test_a_sampler_that_another_node_starts_again_makes_a_run_of_its_own() -> None:
    s, told = scene(), []
    patched, masks = apply_dci(started_again(s.model), DCISettings(active_fraction=0.5), tell=told.append)
    image = ksample(patched, s.positive, s.negative)
    assert len(told) == 2 and told[0] == told[1] and len(masks.latest.calls) == 4
    assert torch.equal(image, ksample(dci(s.model, injection_strength=0.0), s.positive, s.negative))


def test_a_run_drops_what_the_one_before_it_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[int, int]] = []
    start = Session.start

    def watch(session: Session, *args: Any) -> None:
        before = [(run.branch.records, len(run.branch.records)) for run in session.runs]
        start(session, *args)
        held.extend((count, len(records)) for records, count in before)

    monkeypatch.setattr(Session, "start", watch)
    s = scene()
    ksample(dci(started_again(s.model), active_fraction=1.0), s.positive, s.negative)
    assert held == [(16, 0)]


class OwnGuider(comfy.samplers.CFGGuider):
    """A guider as another node may make one: without the attribute ``cfg``."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        del self.cfg

    def predict_noise(self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None) -> Any:
        conds = self.conds["negative"], self.conds["positive"]
        return comfy.samplers.sampling_function(self.inner_model, x, timestep, *conds, 5.0, model_options or {}, seed)


class PlainFormula(comfy.samplers.CFGGuider):
    """The host's formula under another name."""


def test_a_guider_needs_no_scale_of_its_own() -> None:
    s = scene()
    model = dci(s.model)
    own, plain = OwnGuider(model), PlainFormula(model)
    plain.set_cfg(5.0)
    for guider in (own, plain):
        guider.set_conds(s.positive, s.negative)
    assert torch.equal(sample_guider(own, model), sample_guider(plain, model))
