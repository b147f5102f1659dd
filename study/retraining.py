"""What another processor changes: the same fine-tunings made anew, sampled in two ways and compared with the study's own.

A training is the same to the bit on one machine only. This script takes the fine-tunings of the machine it runs on and draws
plain pictures and those of the ablations' reference with them. The cells that are there were drawn on the machine that drew the
ablations' second seed, with the very same trainings, so those are compared with them. Run from the repository root:
python -m study.retraining
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from comfyui_dci.dci_core.files import write_atomically

from demo_world.classifier import load_judge
from demo_world.storage import cache_folder, training_log
from study.cells import CELLS, Cell, Ledger
from study.plan import ABLATIONS, EDITED, EDITED_AT, PLAIN, SEEDS, STUDIED, Sampling
from study.run import results_of
from study.statistics import Array, bootstrap
from study.studio import Studio

RETRAINED = CELLS.with_name("retrained")
REFERENCE = ABLATIONS[0]
SAMPLINGS = (PLAIN, REFERENCE)
SEED = SEEDS[-1]


def main() -> None:
    log, studio, judge = training_log("retraining"), Studio(cache_folder() / "study"), load_judge()
    RETRAINED.mkdir(parents=True, exist_ok=True)
    for concept in STUDIED:
        ledger = Ledger(RETRAINED, concept)
        for sampling in SAMPLINGS:
            cell = Cell(concept, EDITED, EDITED_AT, sampling, SEED)
            if cell not in ledger:
                ledger.write(cell, results_of(studio, judge, cell))
                log.info("%s, %s: %s", concept.name, sampling.name, means(ledger, cell).round(3))
    write_atomically(RETRAINED.with_suffix(".csv"), lambda path: path.write_text(table()))
    paired = RETRAINED.with_name("ablations_paired.csv")
    write_atomically(paired, lambda path: path.write_text(paired_ablations()))


def means(ledger: Ledger, cell: Cell) -> Array:
    """Mean (fidelity, editability) of a cell."""
    scores = [row.score for row in ledger.read(cell)]
    return np.array([[one.fidelity, one.editability] for one in scores]).mean(axis=0)


def table() -> str:
    """Each subject's means with the study's training and with this machine's, as CSV."""
    lines = ["subject,sampling,fidelity,editability,fidelity retrained,editability retrained"]
    for sampling in SAMPLINGS:
        for concept in STUDIED:
            cell = Cell(concept, EDITED, EDITED_AT, sampling, SEED)
            both = [*means(Ledger(CELLS, concept), cell), *means(Ledger(RETRAINED, concept), cell)]
            lines.append(",".join([concept.name, f'"{sampling.name}"', *(f"{value:.3f}" for value in both)]))
    return "\n".join(lines) + "\n"


def paired_ablations() -> str:
    """Each ablation minus DCI with the same training and noises, mean of both seeds, with intervals over subjects, as CSV."""
    lines = ["sampling,fidelity against DCI,editability against DCI"]
    for ablation in ABLATIONS[1:]:
        first = subject_means(CELLS, ablation, SEEDS[0]) - subject_means(CELLS, REFERENCE, SEEDS[0])
        second = subject_means(CELLS, ablation, SEED) - subject_means(RETRAINED, REFERENCE, SEED)
        told = [
            "{:+.3f} ({:+.3f} … {:+.3f})".format(*bootstrap(axis, lambda values: float(values.mean())))
            for axis in ((first + second) / 2).T
        ]
        lines.append(",".join([f'"{ablation.name}"', *told]))
    return "\n".join(lines) + "\n"


def subject_means(folder: Path, sampling: Sampling, seed: int) -> Array:
    """Mean (fidelity, editability) of each subject, [subjects, 2]."""
    return np.array(
        [means(Ledger(folder, concept), Cell(concept, EDITED, EDITED_AT, sampling, seed)) for concept in STUDIED]
    )


if __name__ == "__main__":
    main()
