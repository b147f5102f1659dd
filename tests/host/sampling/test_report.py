"""Each run says what it did, so that "λ does nothing" can be explained."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from comfyui_dci.dci_core.prompt.tokens import TokenSet
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.host.sampling.report import RunReport
from scenes import encode, ksample, positive, scene


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the pack's log says of the runs of a test."""
    with caplog.at_level(logging.INFO, "comfyui_dci"):
        yield caplog


def told(conditioning: Any = None, sampler: str = "euler", **settings: Any) -> tuple[str, Any]:
    s, lines = scene(), []
    patched, masks = apply_dci(s.model, DCISettings(**{"active_fraction": 0.5, **settings}), tell=lines.append)
    ksample(patched, conditioning or s.positive, s.negative, sampler)
    (line,) = lines
    return line, masks.latest


def test_a_run_says_what_it_did_and_the_log_has_layers_tokens_steps_and_weight(
    logged: pytest.LogCaptureFixture,
) -> None:
    line, masks = told(injection_strength=1.0)
    assert re.match(r"DCI on in steps 1 to 2 of 4; the scene had \d+ % of the say", line)
    # P: a V1 V2 V3 cat in times square , at night; P_a: a dog in times square , at night
    facts = "16 layers patched; concept tokens 4 of 11, context tokens 7 of 8; 2 of 4 steps active (2 of 4 model calls)"
    assert f"DCI: {line}\n" in logged.text and f"DCI: {facts}; mean auxiliary weight " in logged.text
    assert 0 < masks.average(8, 8).mean() < 1


def test_the_weight_is_the_mean_of_what_was_used() -> None:
    assert "; the scene had 25 % of the say;" in told(forced_auxiliary_weight=0.25)[0] + ";"
    lines = [told(injection_strength=strength)[0] for strength in (-5.0, 0.0, 5.0)]
    weights = [int(re.findall(r"had (\d+) %", line)[0]) for line in lines]
    assert weights == sorted(weights) and weights[0] < weights[2]


def test_samplers_that_call_more_than_once_a_step_are_counted_both_ways(logged: pytest.LogCaptureFixture) -> None:
    assert told(sampler="heun")[0].startswith("DCI on in steps 1 to 2 of 4;")
    assert "2 of 4 steps active (3 of 7 model calls)" in logged.text  # the second look of step 2 lies after T_a


def test_a_full_run_of_ddim_uniform_has_the_published_codes_seven_active_calls(
    logged: pytest.LogCaptureFixture,
) -> None:
    s = scene("mini")
    patched, _ = apply_dci(s.model, DCISettings(active_fraction=0.15))
    ksample(patched, s.positive, s.negative, scheduler="ddim_uniform", steps=50)
    assert "7 of 50 steps active (7 of 50 model calls)" in logged.text


def test_each_blended_conditioning_is_named(logged: pytest.LogCaptureFixture) -> None:
    s = scene()
    told(s.positive + positive(s.clip, "a V* asleep"))
    assert "context tokens 7 of 8; concept tokens 4 of 6, context tokens 2 of 3;" in logged.text


@pytest.mark.parametrize(
    ("settings", "remark"),
    [
        ({"blend": "sum"}, "DCI on in steps 1 to 2 of 4; blend sum uses no masks, so λ has no effect"),
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
    assert report.text() == "DCI on in steps 1 to 3 of 20; the scene had 12 % of the say"
    assert report.details() == (
        "70 layers patched; concept tokens 1 of 3, context tokens 1 of 2; 3 of 20 steps active (6 of 39 model calls); "
        "mean auxiliary weight 0.123"
    )
    assert replace(report, active_steps=1).text().startswith("DCI on in step 1 of 20;")
    assert replace(report, active_steps=20).text().startswith("DCI on in all 20 steps;")
    unmasked = replace(report, settings=DCISettings(blend="mean"), mean_weight=math.nan)
    assert unmasked.details().endswith("mean auxiliary weight not computed") and "say" not in unmasked.text()


def test_cropped_areas_count_in_the_mean_although_they_have_no_masks() -> None:
    s = scene()
    area = [[s.positive[0][0], {**s.positive[0][1], "area": (4, 8, 0, 0), "strength": 1.0}]]
    line, masks = told(area, forced_auxiliary_weight=0.5)
    assert masks.calls == ()
    assert "the scene had 50 % of the say; masks are not kept for conditionings with an area" in line
