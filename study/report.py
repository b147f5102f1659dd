"""Tables, plots and docs/results.md from the cells that are there."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from demo_world.storage import write_atomically
from study.cells import CELLS, Cell, Ledger
from study.plan import (
    BATCH,
    CHECKPOINTS,
    CONTEXT_LEARNING_RATE,
    EDITED,
    EDITED_AT,
    FIGURES,
    FRACTIONS,
    LEARNING_RATE,
    METHODS,
    PICTURES,
    PLAIN,
    SEEDS,
    STRENGTHS,
    STUDIED,
    TOKEN_LEARNING_RATE,
    TRAINING_SEED,
    Figure,
    Method,
    Sampling,
    dci_name,
    prompts_for,
)  # fmt: skip
from study.statistics import Array, bootstrap, curve_gap, verdict

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
PAGE = RESULTS.with_suffix(".md")
KINDS = ("context", "second noun", "colour", "style")


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

    def points(self, method: Method, steps: int, sampling: Sampling, kind: str | None = None) -> Array | None:
        """Mean (fidelity, editability) of each concept, [concepts, 2]; None when no seed is complete.

        Args:
            method: of fine-tuning.
            steps: checkpoint.
            sampling: with it.
            kind: of prompts; None takes all.
        """
        seeds = self.seeds(method, steps, sampling)
        if not seeds:
            return None
        means = []
        for concept, ledger in self.ledgers.items():
            rows = [row for seed in seeds for row in ledger.read(Cell(concept, method, steps, sampling, seed))]
            scores = [row.score for row in rows if kind in (None, row.kind)]
            means.append([np.mean([one.fidelity for one in scores]), np.mean([one.editability for one in scores])])
        return np.array(means)

    def curve(self, settings: list[tuple[Method, int, Sampling]]) -> Array | None:
        """Points of several settings, [concepts, settings, 2]; None when one is missing."""
        found = [self.points(*setting) for setting in settings]
        return (
            None if any(points is None for points in found) else np.stack([p for p in found if p is not None], axis=1)
        )


def write_report(folder: Path = CELLS) -> None:
    """Write tables (CSV), plots (PNG) and the page; settings with missing cells are named as missing.

    Args:
        folder: of the cells.
    """
    results = Results(folder)
    sections = [_head(), _claims(results), _plots(results)]
    for figure in FIGURES:
        table = _table(results, figure)
        write_atomically(RESULTS / f"{figure.name}.csv", lambda path, table=table: path.write_text(_as_csv(table)))
        sections.append(f"## {figure.title}\n\n" + _as_markdown(table))
    write_atomically(PAGE, lambda path: path.write_text("\n\n".join(sections) + "\n"))


def _head() -> str:
    concepts = ", ".join(f"{concept.name} (a {concept.noun}, {concept.difficulty})" for concept in STUDIED)
    prompts = len(prompts_for(STUDIED[0]))
    return f"""# What the method does on the demo model

Written by `python study/run.py`; no figure was chosen by hand. What it means: [study.md](study.md).

{len(STUDIED)} subjects that the demo model has never seen (in brackets: class noun, difficulty 1 … 3): {concepts}.
{prompts} prompts each ({", ".join(KINDS)}); {PICTURES} pictures a prompt and seed, from the noises that the seeds {SEEDS} give, the
same for every setting; the column "seeds" says which are finished. Training seed {TRAINING_SEED}, {BATCH} references and as many class
images a step, rates {LEARNING_RATE:g} (K, V, `[T]`) and {CONTEXT_LEARNING_RATE:g} (`[I]`); textual inversion {TOKEN_LEARNING_RATE:g}. Sampling: 20
steps of euler, normal schedule, cfg 5, 128 x 128 pixels.

*Fidelity* is the probability, by the demo world's judge, that the main object is this very subject; *editability* that what the
prompt asked for is there, each averaged over prompts and pictures. "Against plain" is the paired difference from the same model
sampled plainly. Ranges in brackets are 95 % intervals from drawing subjects with replacement."""


def _table(results: Results, figure: Figure) -> list[list[str]]:
    kinds = [f"editability: {kind}" for kind in KINDS]
    lines = [
        ["method", "steps", "sampling", "seeds", "fidelity", "editability", "fidelity against plain",
         "editability against plain", *kinds]
    ]  # fmt: skip
    for method in figure.methods:
        for steps in figure.steps:
            plain = results.points(method, steps, PLAIN)
            for sampling in figure.samplings:
                line = [method.name, str(steps), sampling.name]
                points = results.points(method, steps, sampling)
                if points is None or plain is None:
                    lines.append([*line, *["missing"] * (len(lines[0]) - len(line))])
                    continue
                line.append(" ".join(map(str, results.seeds(method, steps, sampling))))
                line += [_with_interval(points[:, axis]) for axis in (0, 1)]
                line += [
                    "" if sampling == PLAIN else _with_interval(points[:, axis] - plain[:, axis], "+.2f")
                    for axis in (0, 1)
                ]
                of_kinds = [results.points(method, steps, sampling, kind) for kind in KINDS]
                line += [f"{of_kind[:, 1].mean():.2f}" for of_kind in of_kinds if of_kind is not None]
                lines.append(line)
    return lines


def _with_interval(values: Array, form: str = ".2f") -> str:
    mean, low, high = bootstrap(values, float)
    return f"{mean:{form}} ({low:{form}} … {high:{form}})"


def _as_csv(table: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def _as_markdown(table: list[list[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])


def raw_curve(method: Method) -> list[tuple[Method, int, Sampling]]:
    """A fine-tuning over its checkpoints, sampled plainly."""
    return [(method, steps, PLAIN) for steps in CHECKPOINTS]


def dci_curve(fraction: float) -> list[tuple[Method, int, Sampling]]:
    """λ swept at one T_a."""
    by_name = {sampling.name: sampling for figure in FIGURES for sampling in figure.samplings}
    return [(EDITED, EDITED_AT, by_name[dci_name(fraction, strength)]) for strength in STRENGTHS]


def alternative_curve(start: str) -> list[tuple[Method, int, Sampling]]:
    """The settings of figure "alternatives" whose names begin with `start`, and the plain model."""
    figure = next(figure for figure in FIGURES if figure.name == "alternatives")
    found = [sampling for sampling in figure.samplings if sampling.name.startswith(start)]
    return [(EDITED, EDITED_AT, sampling) for sampling in [*found, PLAIN]]


def references() -> dict[str, list[tuple[Method, int, Sampling]]]:
    """What DCI is measured against: fine-tunings over their steps, and the free alternatives."""
    curves = {f"{method.name} over its steps": raw_curve(method) for method in METHODS}
    curves["weight strength 0 … 1"] = alternative_curve("weight")
    curves["the noun first"] = alternative_curve("noun")
    return curves


def _claims(results: Results) -> str:
    lines = ["## Does the curve of DCI lie above the others?\n"]
    lines.append(
        "Mean difference of editability at equal fidelity, DCI (λ from -2 to 2) minus the other, where both curves reach; the "
        "other curve is taken as straight between its points.\n"
    )
    table = [["T_a", "against", "difference", "DCI is"]]
    for fraction in FRACTIONS:
        curve = results.curve(dci_curve(fraction))
        for name, settings in references().items():
            reference = results.curve(settings)
            if curve is None or reference is None:
                table.append([f"{fraction:g}", name, "missing", ""])
                continue
            both = np.concatenate([curve, reference], axis=1)
            count = curve.shape[1]
            gap, low, high = bootstrap(both, lambda mean, count=count: curve_gap(mean[:count], mean[count:]))
            told = [f"{gap:+.3f} ({low:+.3f} … {high:+.3f})", verdict(low, high)]
            table.append([f"{fraction:g}", name, *(told if np.isfinite(gap) else ["no fidelity in common", ""])])
    lines.append(_as_markdown(table))
    lines.append("\n## Does λ turn likeness into obedience?\n")
    lines.append("Change per unit of λ, a straight line through the five strengths.\n")
    slopes = [["T_a", "fidelity", "editability"]]
    for fraction in FRACTIONS:
        curve = results.curve(dci_curve(fraction))
        if curve is None:
            slopes.append([f"{fraction:g}", "missing", "missing"])
            continue
        slope = np.array([np.polyfit(STRENGTHS, points, 1)[0] for points in curve])  # [concepts, 2]
        slopes.append([f"{fraction:g}", *(_with_interval(slope[:, axis], "+.3f") for axis in (0, 1))])
    return "\n".join([*lines, _as_markdown(slopes)])


def _plots(results: Results) -> str:
    from matplotlib.figure import Figure as Plot

    raw = {method.name: raw_curve(method) for method in METHODS}
    dci = {f"DCI, T_a {fraction:g}": dci_curve(fraction) for fraction in FRACTIONS}
    free = {"weight strength": alternative_curve("weight"), "noun first": alternative_curve("noun")}
    plot = Plot(figsize=(12, 5.5), layout="constrained")
    for axes, curves in zip(plot.subplots(1, 2), (raw, {EDITED.name: raw_curve(EDITED), **free, **dci}), strict=True):
        for name, settings in curves.items():
            curve = results.curve(settings)
            if curve is not None:
                mean = curve.mean(axis=0)
                axes.plot(mean[:, 0], mean[:, 1], "o-" if name.startswith("DCI") else "s--", label=name, markersize=4)
        axes.set(xlabel="fidelity", ylabel="editability")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    plot.axes[0].set_title("Fine-tuning over its steps")
    plot.axes[1].set_title(f"{EDITED.name} at {EDITED_AT} steps, repaired")
    write_atomically(
        RESULTS / "curves.png", lambda path: plot.savefig(path, dpi=120, format="png", metadata={"Software": None})
    )
    return "![Fidelity against editability](results/curves.png)"
