"""Tables, figures and docs/evidence/results.md from the cells that are there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from comfyui_dci.dci_core.files import write_atomically

from demo_world.vocabulary import SUBJECTS
from study.cells import ALIGNED, AXES, CELLS, JUDGED
from study.figure import draw_curves
from study.plan import BATCH, PLAIN, PLANS, STUDIO, Setting
from study.prompts import KINDS
from study.results import (
    Results,
    dci_curve,
    fractions_of,
    others_of,
    scored_axes,
    strengths_of,
)
from study.screening import LEARNED, PICTURES, TRIES
from study.statistics import REACH, Array, curve_gap, interval_over_subjects, verdict
from study.studio import CFG, STEPS
from study.tables import MISSING, Table, as_csv, as_markdown, told, with_interval, write_text_atomically

RESULTS = CELLS.parent
PAGE = RESULTS.parent / "evidence" / "results.md"
SCENE_KINDS = ("context", "second noun")  # the others change what makes the subject itself, so likeness must fall
OBEDIENCE_OF = {kind: f"obedience, {kind}" for kind in KINDS}
AGAINST = {axis: f"{axis} against plain" for axis in AXES}
WHERE = ("training", "steps", "sampling")
SHOWN = (*WHERE, *JUDGED, *(AGAINST[axis] for axis in JUDGED), *OBEDIENCE_OF.values())
COMPARED: dict[str, tuple[Sequence[str], Collection[str], float]] = {
    "all prompts": (JUDGED, KINDS, REACH),
    "scenes": (JUDGED, SCENE_KINDS, REACH),
    "by CLIP, all prompts": (ALIGNED, KINDS, 0.0),
}
"""Axes, kinds of prompts and how far beyond its end a reference counts, of each comparison of curves."""


def write_report(folder: Path = CELLS, results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write tables (CSV), a figure of each plan (PNG) and the page; settings with missing cells are named as missing.

    Args:
        folder: of the cells.
        results: where tables and figures are written.
        page: the page.
    """
    sections = [_head()]
    for plan in PLANS.values():
        found = Results(folder, plan)
        sections.append(_title(found))
        if found.finished:
            sections += _sections(found, results)
    write_text_atomically(page, "\n\n".join(sections) + "\n")


def _head() -> str:
    return f"""# What the method does on the demo model

Written by `python -m study.run`; no figure was chosen by hand. What it means: [study.md](study.md).

*Likeness* is the probability, by the demo world's judge, that the main object is this very subject; *obedience* that all is there that the
prompt asks for beside it. *clip_i* and *clip_t* are the paper's image and text alignment, by the demo world's CLIP. All are means over prompts and
pictures. "Against plain" is the paired difference from the same training, sampled plainly with the same noises. Ranges in brackets are
95 % intervals over subjects by Student's t (of curves, on the jackknife), each subject the mean over its trainings. Sampling: {STEPS} steps of euler, normal schedule, cfg {CFG:g}."""


def _title(results: Results) -> str:
    plan, method = results.plan, results.plan.methods[0]
    command = f"`python -m study.run {plan.name}`"
    done = "Not run yet" if not results.finished else f"{results.finished} of {plan.cells} cells are there"
    subjects = ", ".join(f"{subject} (a {SUBJECTS[subject]})" for subject in plan.subjects)
    shown = "two references before a plain backdrop" if method.references == STUDIO else "six references"
    repeated = f" Trainings with a likeness below {LEARNED:g} in {PICTURES} pictures of the plainest prompt were repeated, up to {TRIES - 1} times."
    return f"""## The {plan.name} plan

{done}: {command}. Subjects: {subjects}; {len(plan.prompts(plan.subjects[0]))} prompts each, {plan.noises} pictures of each prompt, trainings with the seeds
{", ".join(map(str, plan.seeds))}. What is repaired: {method.name} after {method.steps} steps at {method.learning_rate:g}, {shown}, {method.class_images} class images, batches of {BATCH} and as many class images.{repeated * plan.is_screened}"""


def _sections(results: Results, folder: Path) -> list[str]:
    name = results.plan.name
    settings, gaps = settings_table(results), gap_table(results)
    for table, ending in ((settings, ""), (gaps, "_gaps")):
        write_text_atomically(folder / f"{name}{ending}.csv", as_csv(table))
    figure = folder / f"{name}.png"
    write_atomically(figure, partial(draw_curves, results))
    return [
        f"![Likeness against obedience](../results/{figure.name})",
        "### Every setting\n\n" + as_markdown(settings, SHOWN),
        "### Does the curve of DCI lie above the others?\n\nMean difference of obedience at equal likeness (of clip_t at equal clip_i), "
        "DCI over λ minus the other. The other curve is taken as straight between its points, and up to "
        f"{REACH:g} of likeness beyond its most faithful one as no worse than there, which favours it. Scenes are the prompts for a context "
        "and a second object: the others ask for another colour or style, so what makes the subject itself must change.\n\n"
        + as_markdown(gaps),
        "### Does λ turn likeness into obedience?\n\nChange per unit of λ, a straight line through its strengths.\n\n"
        + as_markdown(slope_table(results)),
    ]


def settings_table(results: Results) -> Table:
    """Every setting: means with intervals, paired differences from plain sampling, obedience and likeness by kind of prompt."""
    axes = scored_axes(results)
    heads = [*WHERE, *axes, *(AGAINST[axis] for axis in axes), *OBEDIENCE_OF.values()]
    lines = [[*heads, *(f"likeness, {kind}" for kind in KINDS)]]
    for setting in results.plan.settings:
        line = [setting.method.name, str(setting.steps), setting.sampling.name]
        means = [results.points(setting, (axis,)) for axis in axes]
        line += [MISSING if mean is None else with_interval(mean) for mean in means]
        line += [_against_plain(results, setting, axis) for axis in axes]
        for axis in reversed(JUDGED):
            values = [results.values(setting, axis, (kind,)) for kind in KINDS]
            line += [MISSING if one is None else f"{one.mean():.2f}" for one in values]
        lines.append(line)
    return lines


def _against_plain(results: Results, setting: Setting, axis: str) -> str:
    own = results.points(setting, (axis,))
    plain = results.points(results.plan.find(PLAIN, setting.method, setting.steps), (axis,))
    if own is None or plain is None:
        return MISSING
    return "" if setting.sampling == PLAIN else with_interval(own - plain, "+.2f" if axis in JUDGED else "+.3f")


def gap_table(results: Results) -> Table:
    """How far DCI's curves over λ lie above the others, with verdicts."""
    lines = [["T_a", "against", *(head for name in COMPARED for head in (name, f"DCI is, {name}"))]]
    for fraction in fractions_of(results.plan):
        curve = dci_curve(results.plan, fraction)
        for name, reference in others_of(results.plan).items():
            line = [f"{fraction:g}", name]
            for axes, kinds, reach in COMPARED.values():
                both = [results.curve(settings, axes, kinds) for settings in (curve, reference)]
                line += _gap(both[0], both[1], reach)
            lines.append(line)
    return lines


def _gap(curve: Array | None, reference: Array | None, reach: float) -> list[str]:
    """How far one curve lies above another, and the verdict."""
    if curve is None or reference is None:
        return [MISSING, ""]
    count = curve.shape[2]
    both = np.concatenate([curve, reference], axis=2).mean(axis=1)
    found = interval_over_subjects(both, lambda mean: curve_gap(mean[:count], mean[count:], reach))
    if not np.isfinite(found[0]):
        return ["nothing in common", ""]
    return [told(found, "+.3f"), verdict(*found[1:])]


def slope_table(results: Results) -> Table:
    """Change of each axis per unit of λ, at each T_a."""
    axes = scored_axes(results)
    lines = [["T_a", *axes]]
    for fraction in fractions_of(results.plan):
        settings = dci_curve(results.plan, fraction)
        offset = np.array(strengths_of(settings)) - np.mean(strengths_of(settings))
        curves = [results.curve(settings, (axis,)) for axis in axes]
        slopes = [None if one is None else one[..., 0] @ offset / (offset**2).sum() for one in curves]  # least squares
        lines.append([f"{fraction:g}", *(MISSING if one is None else with_interval(one, "+.3f") for one in slopes)])
    return lines
