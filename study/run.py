"""Reproduce the paper's figures in small, on the demo model: fine-tune, sample, judge, report.

Results are kept cell by cell in docs/results/cells; a stopped study goes on where it was. Every seed is in
plan.py and in the report. Run from the repository root: python -m study.run
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from demo_world.classifier import Classifier, load_judge
from demo_world.concepts import Concept
from demo_world.storage import cache_folder, training_log
from study.cells import CELLS, Cell, Ledger, Row, rows_of
from study.plan import FIGURES, SEEDS, STUDIED, prompts_for
from study.report import write_report
from study.scoring import score
from study.studio import Studio
from workbench.pack import ROOT


def cells_of(concepts: Sequence[Concept]) -> Iterator[Cell]:
    """All cells: seed by seed, figure by figure, setting by setting, so that a stopped study has whole settings."""
    seen = set()
    for seed in SEEDS:
        for figure in (figure for figure in FIGURES if seed in figure.seeds):
            for method in figure.methods:
                for steps in figure.steps:
                    for sampling in figure.samplings:
                        for concept in concepts:
                            setting = (seed, method.name, steps, sampling.name, concept.name)
                            if setting not in seen:
                                seen.add(setting)
                                yield Cell(concept, method, steps, sampling, seed)


def run(concepts: Sequence[Concept]) -> None:
    """Do the missing cells of some subjects."""
    log, studio, judge = training_log("study"), Studio(cache_folder() / "study"), load_judge()
    ledgers = {concept: Ledger(CELLS, concept) for concept in concepts}
    missing = [cell for cell in cells_of(concepts) if cell not in ledgers[cell.concept]]
    for number, cell in enumerate(missing, start=1):
        started = time.monotonic()
        rows = results_of(studio, judge, cell)
        ledgers[cell.concept].write(cell, rows)
        log.info(
            "%d of %d: %s, %s at %d, %s, seed %d: fidelity %.2f, editability %.2f, %.0f s",
            number,
            len(missing),
            cell.concept.name,
            cell.method.name,
            cell.steps,
            cell.sampling.name,
            cell.seed,
            sum(row.score.fidelity for row in rows) / len(rows),
            sum(row.score.editability for row in rows) / len(rows),
            time.monotonic() - started,
        )


def results_of(studio: Studio, judge: Classifier, cell: Cell) -> list[Row]:
    """Fine-tune if this machine has not, draw the cell's pictures and judge them."""
    trained = studio.fine_tune(cell.concept, cell.method, cell.steps)
    rows: list[Row] = []
    for prompt in prompts_for(cell.concept):
        images = studio.draw(trained, cell.concept, prompt, cell.sampling, cell.seed)
        rows += rows_of(prompt, score(judge, images, cell.concept, prompt))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="only write the report from what is there")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    parser.add_argument("--only", nargs="+", metavar="SUBJECT", help="do the cells of these subjects and no report")
    arguments = parser.parse_args()
    names = [concept.name for concept in STUDIED]
    if arguments.only:
        if strangers := sorted(set(arguments.only) - set(names)):
            parser.error(f"unknown subjects {strangers}; the study has {names}")
        run([concept for concept in STUDIED if concept.name in arguments.only])
        return
    if not arguments.report:
        shares = [names[first :: arguments.workers] for first in range(min(arguments.workers, len(names)))]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # the demo model is too small to share a step
        command = [sys.executable, "-m", "study.run"]
        workers = [subprocess.Popen([*command, "--only", *share], env=one_thread, cwd=ROOT) for share in shares]
        codes = [worker.wait() for worker in workers]
        if any(codes):
            sys.exit("A worker failed; its message is above. Run the same command again to go on.")
    write_report()


if __name__ == "__main__":
    main()
