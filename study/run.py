"""Reproduce the paper's figures in small, on the demo model: fine-tune, sample, judge, report.

Results are kept cell by cell in the cache folder; a stopped study goes on where it was. Every seed is in study/plan.py
and in the report. Run from the repository root: python study/run.py
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from demo_world.classifier import load_judge  # noqa: E402
from demo_world.storage import cache_folder, training_log  # noqa: E402
from study.cells import Cell, rows_of, write_rows  # noqa: E402
from study.plan import FIGURES, STUDIED, Figure, prompts_for  # noqa: E402
from study.report import write_report  # noqa: E402
from study.scoring import score  # noqa: E402
from study.studio import Studio  # noqa: E402


def cells_of(figure: Figure) -> Iterator[Cell]:
    """All cells of a figure, concept by concept."""
    for concept in STUDIED:
        for method in figure.methods:
            for steps in figure.steps:
                for sampling in figure.samplings:
                    yield Cell(concept, method, steps, sampling)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="only write the report from what is there")
    arguments = parser.parse_args()
    log, folder = training_log("study"), cache_folder() / "study"
    studio, judge = Studio(folder / "concepts"), load_judge()
    wanted = [cell for figure in FIGURES for cell in cells_of(figure)]
    missing = [cell for cell in wanted if not cell.path(folder, studio.version).exists()]
    log.info("%d cells, %d to do", len(wanted), 0 if arguments.report else len(missing))
    for number, cell in enumerate([] if arguments.report else missing, start=1):
        started = time.monotonic()
        trained = studio.fine_tune(cell.concept, cell.method, cell.steps)
        rows = []
        for prompt in prompts_for(cell.concept):
            images = studio.draw(trained, cell.concept, prompt, cell.sampling)
            rows += rows_of(prompt, score(judge, images, cell.concept, prompt))
        write_rows(cell.path(folder, studio.version), rows)
        log.info(
            "%d of %d: %s, %s at %d, %s: fidelity %.2f, editability %.2f, %.0f s",
            number, len(missing), cell.concept.name, cell.method.name, cell.steps, cell.sampling.name,
            sum(row.score.fidelity for row in rows) / len(rows), sum(row.score.editability for row in rows) / len(rows),
            time.monotonic() - started,
        )  # fmt: skip
    write_report(folder, studio.version)


if __name__ == "__main__":
    main()
