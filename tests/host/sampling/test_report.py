"""Each run says what it did, so that "λ does nothing" can be explained."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from comfyui_dci.dci_core.prompt.tokens import TokenSet
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.host.sampling.report import RunReport
from scenes import encode, ksample, positive, scene


def told(conditioning: Any = None, sampler: str = "euler", **settings: Any) -> tuple[str, Any]:
    s, lines = scene(), []
    patched, masks = apply_dci(s.model, DCISettings(**{"active_fraction": 0.5, **settings}), tell=lines.append)
    ksample(patched, conditioning or s.positive, s.negative, sampler)
    (line,) = lines
    return line, masks.latest


def test_a_run_names_layers_tokens_steps_and_weight(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "comfyui_dci"):
        line, masks = told(injection_strength=1.0)
    # P: a V1 V2 V3 cat in times square , at night; P_a: a dog in times square , at night
    facts = "16 layers patched; concept tokens 4 of 11, context tokens 7 of 8; 2 of 4 steps active (2 of 4 model calls)"
    assert line.startswith(f"{facts}; mean auxiliary weight ")
    assert f"DCI: {line}" in caplog.text
    assert 0 < masks.average(8, 8).mean() < 1


def test_the_weight_is_the_mean_of_what_was_used() -> None:
    assert "mean auxiliary weight 0.25;" in told(forced_auxiliary_weight=0.25)[0] + ";"
    lines = [told(injection_strength=strength)[0] for strength in (-5.0, 0.0, 5.0)]
    weights = [float(re.findall(r"weight ([\d.e-]+)", line)[0]) for line in lines]
    assert weights == sorted(weights) and weights[0] < weights[2]


def test_samplers_that_call_more_than_once_a_step_are_counted_both_ways() -> None:
    line, _ = told(sampler="heun")
    assert "2 of 4 steps active (3 of 7 model calls)" in line  # the second look of step 2 lies after T_a


def test_a_full_run_of_ddim_uniform_has_the_published_codes_seven_active_calls() -> None:
    s, lines = scene("mini"), []
    patched, _ = apply_dci(s.model, DCISettings(active_fraction=0.15), tell=lines.append)
    ksample(patched, s.positive, s.negative, scheduler="ddim_uniform", steps=50)
    assert "7 of 50 steps active (7 of 50 model calls)" in lines[0]


def test_each_blended_conditioning_is_named() -> None:
    s = scene()
    line, _ = told(s.positive + positive(s.clip, "a V* asleep"))
    assert "context tokens 7 of 8; concept tokens 4 of 6, context tokens 2 of 3;" in line


@pytest.mark.parametrize(
    ("settings", "remark"),
    [
        ({"blend": "sum"}, "mean auxiliary weight not computed; blend sum uses no masks, so λ has no effect"),
        ({"mask_preset": "paper"}, "mask preset paper keeps weights near one half whatever λ is"),
    ],
)
def test_why_strength_does_nothing_is_said(settings: dict[str, Any], remark: str) -> None:
    assert remark in told(**settings)[0]


def test_a_prompt_without_context_is_remarked() -> None:
    assert "so there is no context to let in" in told(positive(scene().clip, "V* cat"))[0]


def test_runs_without_the_auxiliary_branch_say_why() -> None:
    s = scene()
    assert told(active_fraction=0.0)[0] == "switched off, active_fraction is 0"
    line, _ = told(encode(s.clip, "a castle"))
    assert line.startswith("inactive, this is plain sampling: the positive conditioning carries no auxiliary text")


def test_steps_and_calls_by_hand() -> None:
    tokens = (TokenSet((1, 2, 3), (2,)), TokenSet((1, 2), (1,)))
    report = RunReport(DCISettings(), 70, (tokens,), 3, 20, 6, 39, 0.123456)
    assert report.text() == (
        "70 layers patched; concept tokens 1 of 3, context tokens 1 of 2; 3 of 20 steps active (6 of 39 model calls); "
        "mean auxiliary weight 0.123"
    )


def test_cropped_areas_count_in_the_mean_although_they_have_no_masks() -> None:
    s = scene()
    area = [[s.positive[0][0], {**s.positive[0][1], "area": (4, 8, 0, 0), "strength": 1.0}]]
    line, masks = told(area, forced_auxiliary_weight=0.5)
    assert masks.calls == ()
    assert "mean auxiliary weight 0.5; masks are not kept for conditionings with an area" in line
