"""Tables, plots and docs/evidence/results.md from the cells that are there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from comfyui_dci.dci_core.files import write_atomically

from study.cells import CELLS, Cell, Ledger
from study.plan import (
    BASE,
    BATCH,
    CONTEXT_RATE_FACTOR,
    DCI_SWEEP,
    FIGURES,
    FRACTIONS,
    FREE,
    HIGH_LEARNING_RATE,
    HIGH_RATE,
    INJECTION_STRENGTHS,
    LEARNING_RATE,
    PICTURES,
    PLAIN,
    SEEDS,
    STUDIED,
    TOKEN_LEARNING_RATE,
    TRAINING_SEED,
    TRIALS,
    USUAL_RATE,
    Figure,
    Method,
    Sampling,
    Trial,
    dci_name,
    prompts_for,
)
from study.statistics import REACH, Array, bootstrap, curve_gap, verdict
from study.tables import AXES, as_csv, as_markdown, with_interval

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
PAGE = RESULTS.parent / "evidence" / "results.md"
KINDS = ("context", "second noun", "colour", "style")
SCENE_KINDS = ("context", "second noun")  # the others change what makes the subject itself, so likeness must fall
Setting = tuple[Method, int, Sampling]


class Results:
    """All finished cells.

    Args:
        folder: of the cells.
    """

    def __init__(self, folder: Path) -> None:
        self.ledgers = {concept: Ledger(folder, concept) for concept in STUDIED}

    def seeds(self, method: Method, steps: int, sampling: Sampling) -> list[int]:
        """The seeds for which every concept's cell is there."""
        return [
            seed
            for seed in SEEDS
            if all(Cell(concept, method, steps, sampling, seed) in ledger for concept, ledger in self.ledgers.items())
        ]

    def shared_seeds(self, settings: Iterable[Setting]) -> list[int]:
        """The seeds that all settings with any finished seed have, so that what is compared has the same noises."""
        finished = [set(seeds) for setting in settings if (seeds := self.seeds(*setting))]
        return sorted(set.intersection(*finished)) if finished else []

    def points(self, setting: Setting, seeds: Sequence[int], kinds: Collection[str] = KINDS) -> Array | None:
        """Mean (fidelity, editability) of each concept, [concepts, 2]; None when a seed is missing, or no seed given.

        Args:
            setting: method of fine-tuning, checkpoint, sampling.
            seeds: whose pictures count.
            kinds: of the prompts that count.
        """
        if not seeds or not set(seeds) <= set(self.seeds(*setting)):
            return None
        means = []
        for concept, ledger in self.ledgers.items():
            rows = [row for seed in seeds for row in ledger.read(Cell(concept, *setting, seed))]
            scores = [row.score for row in rows if row.kind in kinds]
            means.append([np.mean([one.fidelity for one in scores]), np.mean([one.editability for one in scores])])
        return np.array(means)

    def curve(self, settings: Iterable[Setting], seeds: Sequence[int], kinds: Collection[str] = KINDS) -> Array | None:
        """Points of several settings, [concepts, settings, 2]; None when one is missing."""
        found = [self.points(setting, seeds, kinds) for setting in settings]
        return (
            None if any(points is None for points in found) else np.stack([p for p in found if p is not None], axis=1)
        )


def write_report(folder: Path = CELLS) -> None:
    """Write tables (CSV), plots (PNG) and the page; settings with missing cells are named as missing.

    Args:
        folder: of the cells.
    """
    results = Results(folder)
    sections = [_head(), *(_claims(results, trial) for trial in TRIALS), _plots(results)]
    for figure in FIGURES:
        table = _table(results, figure)
        write_atomically(RESULTS / f"{figure.name}.csv", partial(Path.write_text, data=as_csv(table)))
        sections.append(f"## {figure.title}\n\n" + as_markdown(table))
    write_atomically(PAGE, lambda path: path.write_text("\n\n".join(sections) + "\n"))


def _head() -> str:
    concepts = ", ".join(f"{concept.name} (a {concept.noun}, {concept.difficulty})" for concept in STUDIED)
    prompts = len(prompts_for(STUDIED[0]))
    return f"""# What the method does on the demo model

Written by `python -m study.run`; no figure was chosen by hand. What it means: [study.md](study.md).

{len(STUDIED)} subjects that the demo model has never seen (in brackets: class noun, difficulty 1 … 3): {concepts}.
{prompts} prompts each ({", ".join(KINDS)}); {PICTURES} pictures a prompt and seed, from the noises that the seeds {_told(USUAL_RATE)} give ({_told(HIGH_RATE)} at the higher learning rate), the
same for every setting; the column "seeds" says which count: those finished for everything that is compared. Training seed {TRAINING_SEED}, {BATCH} references and as many class
images a step. Learning rates of K, V and `[T]`: {LEARNING_RATE:g}, and {HIGH_LEARNING_RATE:g} where a method's name says so; textual inversion
{TOKEN_LEARNING_RATE:g}; `[I]` {CONTEXT_RATE_FACTOR:g} times as much. Sampling: 20 steps of euler, normal schedule, cfg 5, 128 x 128 pixels.

*Fidelity* is the probability, by the demo world's judge, that the main object is this very subject; *editability* that what the
prompt asked for is there, each averaged over prompts and pictures. "Against plain" is the paired difference from the same model
sampled plainly. Ranges in brackets are 95 % intervals from drawing subjects with replacement."""


def _told(trial: Trial) -> str:
    return " and ".join(map(str, trial.seeds))


def _table(results: Results, figure: Figure) -> list[list[str]]:
    lines = [
        [
            "method",
            "steps",
            "sampling",
            "seeds",
            "fidelity",
            "editability",
            "fidelity against plain",
            "editability against plain",
            *(f"{kind}: {axis}" for kind in KINDS for axis in AXES),
        ]
    ]
    checkpoints = [(method, steps) for method in figure.methods for steps in figure.steps]
    seeds = results.shared_seeds((*one, sampling) for one in checkpoints for sampling in (PLAIN, *figure.samplings))
    for method, steps in checkpoints:
        plain = results.points((method, steps, PLAIN), seeds)
        for sampling in figure.samplings:
            line = [method.name, str(steps), sampling.name]
            points = results.points((method, steps, sampling), seeds)
            if points is None or plain is None:
                lines.append([*line, *["missing"] * (len(lines[0]) - len(line))])
                continue
            line.append(" ".join(map(str, seeds)))
            line += [with_interval(points[:, axis]) for axis in (0, 1)]
            line += [
                "" if sampling == PLAIN else with_interval(points[:, axis] - plain[:, axis], "+.2f") for axis in (0, 1)
            ]
            of_kinds = [results.points((method, steps, sampling), seeds, (kind,)) for kind in KINDS]
            line += [f"{value:.2f}" for one in of_kinds if one is not None for value in one.mean(axis=0)]
            lines.append(line)
    return lines


def raw_curve(method: Method, trial: Trial = USUAL_RATE) -> list[Setting]:
    """A fine-tuning over its checkpoints, sampled plainly."""
    return [(method, steps, PLAIN) for steps in trial.checkpoints]


def dci_curve(fraction: float, trial: Trial = USUAL_RATE) -> list[Setting]:
    """λ swept at one T_a."""
    by_name = {sampling.name: sampling for sampling in DCI_SWEEP}
    return [(trial.edited, trial.edited_at, by_name[dci_name(fraction, strength)]) for strength in INJECTION_STRENGTHS]


def alternative_curve(start: str, trial: Trial = USUAL_RATE) -> list[Setting]:
    """The free alternatives whose names begin with `start`, and the plain model."""
    found = [sampling for sampling in (BASE, *FREE) if sampling.name.startswith(start)]
    return [(trial.edited, trial.edited_at, sampling) for sampling in [*found, PLAIN]]


def references(trial: Trial = USUAL_RATE) -> dict[str, list[Setting]]:
    """What DCI is measured against: fine-tunings over their steps, and the free alternatives."""
    curves = {f"{method.name} over its steps": raw_curve(method, trial) for method in trial.methods}
    curves["weight strength 0 … 1"] = alternative_curve("weight", trial)
    curves["the noun first"] = alternative_curve("noun", trial)
    return curves


def _claims(results: Results, trial: Trial) -> str:
    return f"""## Does the curve of DCI lie above the others? {trial.edited.name} at {trial.edited_at} steps

Mean difference of editability at equal fidelity, DCI (λ from -2 to 2) minus the other. The other curve is taken as straight
between its points, and up to {REACH} of fidelity beyond its most faithful one as no worse than there, which favours it. "Scenes" counts the prompts for a context or a second object alone: the
others ask for another colour or style, so what makes the subject itself must change.

{as_markdown(_gaps(results, trial))}

### Does λ turn likeness into obedience?

Change per unit of λ, a straight line through the five strengths.

{as_markdown(_slopes(results, trial))}"""


def _gaps(results: Results, trial: Trial) -> list[list[str]]:
    table = [["T_a", "against", "all prompts", "DCI is", "scenes", "DCI is"]]
    for fraction in FRACTIONS:
        for name, reference in references(trial).items():
            line, curve = [f"{fraction:g}", name], dci_curve(fraction, trial)
            seeds = results.shared_seeds([*curve, *reference])
            for kinds in (KINDS, SCENE_KINDS):
                line += _gap(results.curve(curve, seeds, kinds), results.curve(reference, seeds, kinds))
            table.append(line)
    return table


def _gap(curve: Array | None, reference: Array | None) -> list[str]:
    """How far one curve lies above another, and the verdict."""
    if curve is None or reference is None:
        return ["missing", ""]
    count = curve.shape[1]
    both = np.concatenate([curve, reference], axis=1)
    gap, low, high = bootstrap(both, lambda mean: curve_gap(mean[:count], mean[count:]))
    if not np.isfinite(gap):
        return ["no fidelity in common", ""]
    return [f"{gap:+.3f} ({low:+.3f} … {high:+.3f})", verdict(low, high)]


def _slopes(results: Results, trial: Trial) -> list[list[str]]:
    table = [["T_a", *(f"{axis}, {what}" for what in ("all prompts", "scenes") for axis in AXES)]]
    for fraction in FRACTIONS:
        line, settings = [f"{fraction:g}"], dci_curve(fraction, trial)
        for kinds in (KINDS, SCENE_KINDS):
            curve = results.curve(settings, results.shared_seeds(settings), kinds)
            if curve is None:
                line += ["missing"] * len(AXES)
                continue
            slope = np.array([np.polyfit(INJECTION_STRENGTHS, points, 1)[0] for points in curve])  # [concepts, 2]
            line += [with_interval(slope[:, axis], "+.3f") for axis in (0, 1)]
        table.append(line)
    return table


def _plots(results: Results) -> str:
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(13, 11), layout="constrained")
    for row, trial in zip(plot.subplots(len(TRIALS), 2), TRIALS, strict=True):
        raw = {method.name: raw_curve(method, trial) for method in trial.methods}
        free = {name: alternative_curve(name.split()[0], trial) for name in ("weight strength", "noun first")}
        dci = {f"DCI, T_a {fraction:g}": dci_curve(fraction, trial) for fraction in FRACTIONS}
        edited = trial.edited
        for axes, curves in zip(row, (raw, {edited.name: raw_curve(edited, trial), **free, **dci}), strict=True):
            seeds = results.shared_seeds(setting for settings in curves.values() for setting in settings)
            _draw(axes, {name: results.curve(settings, seeds, SCENE_KINDS) for name, settings in curves.items()})
        row[0].set_title("Fine-tuning over its steps")
        row[1].set_title(f"{edited.name} at {trial.edited_at} steps, repaired")
    write_atomically(
        RESULTS / "curves.png", lambda path: plot.savefig(path, dpi=110, format="png", metadata={"Software": None})
    )
    return "![Fidelity against editability](../results/curves.png)\n\nScenes only, mean of all subjects."


def _draw(axes: Any, curves: dict[str, Array | None]) -> None:
    for name, curve in curves.items():
        if curve is not None:
            mean = curve.mean(axis=0)
            axes.plot(mean[:, 0], mean[:, 1], "o-" if name.startswith("DCI") else "s--", label=name, markersize=4)
    axes.set(xlabel="fidelity", ylabel="editability")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
