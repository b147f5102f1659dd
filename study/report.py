"""Tables, plots and docs/results.md from the cells that are there."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo_world.storage import write_atomically
from study.cells import Cell, read_rows
from study.plan import (
    CHECKPOINTS,
    EDITED,
    EDITED_AT,
    FIGURES,
    FRACTIONS,
    METHODS,
    PICTURES,
    SEED,
    STRENGTHS,
    STUDIED,
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


@dataclass(frozen=True)
class Results:
    """All finished cells.

    Args:
        folder: of the cells.
        version: of the code that made them.
    """

    folder: Path
    version: str

    def points(self, method: Method, steps: int, sampling: Sampling, kind: str | None = None) -> Array | None:
        """Mean (fidelity, editability) of each concept, [concepts, 2]; None when a concept's cell is missing.

        Args:
            method: of fine-tuning.
            steps: checkpoint.
            sampling: with it.
            kind: of prompts; None takes all.
        """
        means = []
        for concept in STUDIED:
            path = Cell(concept, method, steps, sampling).path(self.folder, self.version)
            if not path.exists():
                return None
            rows = [row for row in read_rows(path) if kind in (None, row.kind)]
            means.append(
                [np.mean([row.score.fidelity for row in rows]), np.mean([row.score.editability for row in rows])]
            )
        return np.array(means)

    def curve(self, settings: list[tuple[Method, int, Sampling]]) -> Array | None:
        """Points of several settings, [concepts, settings, 2]; None when one is missing."""
        found = [self.points(*setting) for setting in settings]
        return (
            None if any(points is None for points in found) else np.stack([p for p in found if p is not None], axis=1)
        )


def write_report(folder: Path, version: str) -> None:
    """Write tables (CSV), plots (PNG) and the page; figures with missing cells are named as missing.

    Args:
        folder: of the cells.
        version: of the code that made them.
    """
    results = Results(folder, version)
    sections = [_head()]
    for figure in FIGURES:
        table = _table(results, figure)
        write_atomically(RESULTS / f"{figure.name}.csv", lambda path, table=table: path.write_text(_as_csv(table)))
        sections.append(f"## {figure.title}\n\n" + _as_markdown(table))
    sections += [_plots(results), _claims(results)]
    write_atomically(PAGE, lambda path: path.write_text("\n\n".join(sections) + "\n"))


def _head() -> str:
    concepts = ", ".join(f"{concept.name} (a {concept.noun}, {concept.difficulty})" for concept in STUDIED)
    prompts = len(prompts_for(STUDIED[0]))
    return f"""# What the method does on the demo model

Written by `python study/run.py`; no figure was chosen by hand. {len(STUDIED)} subjects the demo model has never seen (in
brackets: class noun, difficulty 1 … 3): {concepts}. {prompts} prompts each ({", ".join(KINDS)}), {PICTURES} pictures a prompt from the
noises that seed {SEED} gives, the same for every setting; training seed {SEED}. 20 steps of euler, cfg 5, 128 x 128 pixels.

*Fidelity* is the probability, by the demo world's judge, that the main object is this very subject; *editability* that what the
prompt asked for is there. Ranges in brackets are 95 % intervals from drawing subjects with replacement."""


def _table(results: Results, figure: Figure) -> list[list[str]]:
    lines = [["method", "steps", "sampling", "fidelity", "editability", *(f"editability: {kind}" for kind in KINDS)]]
    for method in figure.methods:
        for steps in figure.steps:
            for sampling in figure.samplings:
                line = [method.name, str(steps), sampling.name]
                points = results.points(method, steps, sampling)
                if points is None:
                    lines.append([*line, *["missing"] * (2 + len(KINDS))])
                    continue
                line += [_with_interval(points[:, axis]) for axis in (0, 1)]
                for kind in KINDS:
                    of_kind = results.points(method, steps, sampling, kind)
                    line.append("missing" if of_kind is None else f"{of_kind[:, 1].mean():.2f}")
                lines.append(line)
    return lines


def _with_interval(values: Array) -> str:
    mean, low, high = bootstrap(values, float)
    return f"{mean:.2f} ({low:.2f} … {high:.2f})"


def _as_csv(table: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def _as_markdown(table: list[list[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])


def raw_curve(method: Method) -> list[tuple[Method, int, Sampling]]:
    """A fine-tuning over its checkpoints, sampled plainly."""
    return [(method, steps, Sampling("plain")) for steps in CHECKPOINTS]


def dci_curve(fraction: float) -> list[tuple[Method, int, Sampling]]:
    """λ swept at one T_a."""
    by_name = {sampling.name: sampling for figure in FIGURES for sampling in figure.samplings}
    return [(EDITED, EDITED_AT, by_name[dci_name(fraction, strength)]) for strength in STRENGTHS]


def alternative_curve(start: str) -> list[tuple[Method, int, Sampling]]:
    """The settings of figure "alternatives" whose names begin with `start`, and the plain model."""
    figure = next(figure for figure in FIGURES if figure.name == "alternatives")
    found = [sampling for sampling in figure.samplings if sampling.name.startswith(start)]
    return [(EDITED, EDITED_AT, sampling) for sampling in [*found, Sampling("plain")]]


def _claims(results: Results) -> str:
    references = {f"{method.name} over its steps": raw_curve(method) for method in METHODS}
    references |= {"weight strength 0 … 1": alternative_curve("weight"), "the noun first": alternative_curve("noun")}
    lines = ["## Does the curve of DCI lie above the others?\n"]
    lines.append("Mean difference of editability at equal fidelity, DCI minus the other, where both curves reach.\n")
    table = [["T_a", "against", "difference", "verdict"]]
    for fraction in FRACTIONS:
        curve = results.curve(dci_curve(fraction))
        for name, settings in references.items():
            reference = results.curve(settings)
            if curve is None or reference is None:
                table.append([f"{fraction:g}", name, "missing", ""])
                continue
            both = np.concatenate([curve, reference], axis=1)
            count = curve.shape[1]
            gap, low, high = bootstrap(both, lambda mean, count=count: curve_gap(mean[:count], mean[count:]))
            table.append([f"{fraction:g}", name, f"{gap:+.3f} ({low:+.3f} … {high:+.3f})", verdict(low, high)])
    return "\n".join(lines) + "\n" + _as_markdown(table)


def _plots(results: Results) -> str:
    from matplotlib.figure import Figure as Plot

    curves = {method.name: raw_curve(method) for method in METHODS}
    curves |= {f"DCI, T_a {fraction:g}": dci_curve(fraction) for fraction in FRACTIONS}
    curves |= {"weight strength": alternative_curve("weight"), "noun first": alternative_curve("noun")}
    plot = Plot(figsize=(8, 6), layout="constrained")
    axes = plot.add_subplot()
    for name, settings in curves.items():
        curve = results.curve(settings)
        if curve is not None:
            mean = curve.mean(axis=0)
            axes.plot(mean[:, 0], mean[:, 1], "o-" if name.startswith("DCI") else "s--", label=name, markersize=4)
    axes.set(xlabel="fidelity", ylabel="editability", title=f"{len(STUDIED)} subjects, demo model")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    write_atomically(
        RESULTS / "curves.png", lambda path: plot.savefig(path, dpi=120, format="png", metadata={"Software": None})
    )
    return "![Fidelity against editability](results/curves.png)"
