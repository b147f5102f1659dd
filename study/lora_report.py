"""Tables, curves and pictures of the LoRAs from the cells that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from comfyui_dci.dci_core.files import write_atomically
from comfyui_dci.dci_core.pictures.sweep import draw_sweep
from PIL import Image
from torch import Tensor

from demo_world.storage import cache_folder
from demo_world.vocabulary import SUBJECTS
from study.cells import CELLS
from study.lora_training import DREAMBOOTH, INSTANCE, LORAS, STUDIED, Lora, load_lora, lora_file
from study.loras import (
    AUXILIARY_STRENGTHS,
    BASE,
    FRACTIONS,
    NOUN_FIRST,
    PLAIN,
    WAYS,
    WEAKER,
    Cells,
    Way,
    cells_folder,
    dci_ways,
    draw,
    prompts_of,
)
from study.statistics import Array, curve_gap, interval_over_subjects, verdict
from study.studio import Studio
from study.tables import as_csv, with_interval, write_text_atomically

RESULT, GAPS, PICTURE = (CELLS.with_name(name) for name in ("loras.csv", "loras_gaps.csv", "loras.jpg"))
SUBSETS: dict[str, tuple[str, ...]] = {
    "all prompts": ("context", "second noun", "style"),
    "scenes": ("context", "second noun"),  # a style changes what makes the subject itself
    "second noun": ("second noun",),
    "style": ("style",),
}  # kinds of prompts
GROUPS: dict[str, tuple[Lora, ...]] = {
    **{kind: tuple(lora for lora in LORAS if lora.kind == kind) for kind in (INSTANCE, DREAMBOOTH)},
    **{lora.name: (lora,) for lora in LORAS},
}
REFERENCES: dict[str, tuple[Way, ...]] = {
    "strength 0 … 1": (BASE, *WEAKER),
    "the class noun first": (BASE, *NOUN_FIRST, PLAIN),
}
USUAL_CURE = Way(strength=0.8)  # what people do about a LoRA that ignores its prompts
SHOWN: dict[str, Way] = {
    "strength 1": PLAIN,
    "strength 0.7": Way(strength=0.7),
    "class noun 30%": NOUN_FIRST[-1],
    "DCI lambda -1": Way(injection_strength=-1.0, active_fraction=0.5),
    "DCI lambda 1": Way(injection_strength=1.0, active_fraction=0.5),
    "DCI lambda 2": Way(injection_strength=2.0, active_fraction=0.5),
    "lambda 2, half LoRA": Way(injection_strength=2.0, active_fraction=0.5, auxiliary_strength=0.5),
}
AXES = ("likeness", "obedience")
Scores = Mapping[Way, Array]
"""(Likeness, obedience) of each subject, [subjects, 2]."""
Found = Mapping[str, Mapping[str, Scores]]
"""By the name of a group of LoRAs, then of a subset of prompts."""


def collect(cells: Mapping[tuple[str, str], Cells], loras: Sequence[Lora], kinds: Sequence[str]) -> Scores:
    """Return the mean over LoRAs and prompts of every finished way.

    Args:
        cells: by names of subject and LoRA.
        loras: that count.
        kinds: of prompts that count.
    """
    found = {}
    for way in WAYS:
        of_subjects = []
        for subject in STUDIED:
            counted = [
                (cells[subject, lora.name], prompt)
                for lora in loras
                for prompt in prompts_of(subject, lora)
                if prompt.kind in kinds
            ]
            if any(own.missing(way, [prompt]) for own, prompt in counted):
                break
            of_subjects.append(np.mean([own.read(way, prompt) for own, prompt in counted], axis=0))
        else:
            found[way] = np.array(of_subjects)
    return found


def curve(scores: Scores, ways: Sequence[Way]) -> Array | None:
    """Points of several ways, [subjects, ways, 2]; None when one is missing."""
    return np.stack([scores[way] for way in ways], axis=1) if all(way in scores for way in ways) else None


def gap(above: Array | None, below: Array | None, axis: int) -> list[str]:
    """How far one curve lies above another one along an axis, where they are equal on the other axis, with the verdict.

    Args:
        above: [subjects, points, 2] of (likeness, obedience).
        below: [subjects, points, 2].
        axis: 0 compares likeness, 1 obedience.
    """
    if above is None or below is None:
        return ["missing", ""]
    count, order = above.shape[1], [1 - axis, axis]
    both = np.concatenate([above, below], axis=1)[..., order]
    found, low, high = interval_over_subjects(both, lambda mean: curve_gap(mean[:count], mean[count:]))
    if not np.isfinite(found):
        return ["nothing in common", ""]
    return [f"{found:+.3f} ({low:+.3f} … {high:+.3f})", verdict(low, high)]


def cell_table(found: Found) -> str:
    """CSV of every way: means over subjects with 95 % intervals, paired differences, and parts of the prompts."""
    compared, parts = {"plain": PLAIN, USUAL_CURE.name: USUAL_CURE}, list(SUBSETS)[1:]
    lines = [["LoRAs", "way", *AXES]]
    lines[0] += [f"{axis} against {name}" for name in compared for axis in AXES]
    lines[0] += [f"{axis}, {part}" for part in parts for axis in AXES]
    for group, subsets in found.items():
        scores = subsets["all prompts"]
        for way, values in scores.items():
            line = [group, way.name, *map(with_interval, values.T)]
            for other in compared.values():
                told = way != other and other in scores
                line += [with_interval(one, "+.2f") for one in (values - scores[other]).T] if told else ["", ""]
            lines.append([*line, *(f"{mean:.2f}" for part in parts for mean in subsets[part][way].mean(axis=0))])
    return as_csv(lines)


def gap_table(found: Found) -> str:
    """CSV of how far the curves of DCI over λ lie above the other ways: in obedience at equal likeness, and the reverse."""
    measures = {f"{AXES[axis]} at equal {AXES[1 - axis]}": axis for axis in (1, 0)}
    compared = [(subset, name, axis) for name, axis in measures.items() for subset in list(SUBSETS)[:2]]
    lines = [["LoRAs", "auxiliary LoRA", "T_a", "against"]]
    lines[0] += [title for subset, name, _ in compared for title in (f"{name}, {subset}", "DCI is")]
    for group, subsets in found.items():
        for auxiliary in AUXILIARY_STRENGTHS:
            for fraction in FRACTIONS:
                for against, reference in REFERENCES.items():
                    line = [group, f"{auxiliary:g}", f"{fraction:g}", against]
                    for subset, _, axis in compared:
                        scores = subsets[subset]
                        line += gap(curve(scores, dci_ways(fraction, auxiliary)), curve(scores, reference), axis)
                    lines.append(line)
    return as_csv(lines)


def collected(folder: Path) -> Found:
    """Return what is finished.

    Args:
        folder: of the cells.
    """
    cells = {(subject, lora.name): Cells(folder, subject, lora) for subject in STUDIED for lora in LORAS}
    return {
        group: {subset: collect(cells, loras, kinds) for subset, kinds in SUBSETS.items()}
        for group, loras in GROUPS.items()
    }


def contact_sheet(studio: Studio) -> Tensor:
    """Return pictures of each subject's first LoRA on a second-noun prompt, a row for each of ``SHOWN``, [H, W, 3] in 0 … 1."""
    asked = {
        one: next(prompt for prompt in prompts_of(one, LORAS[0]) if prompt.kind == "second noun") for one in STUDIED
    }
    rows: list[list[Tensor]] = [[] for _ in SHOWN]
    labels = []
    for subject in STUDIED:
        for lora in GROUPS[INSTANCE][:1] + GROUPS[DREAMBOOTH][:1]:
            weights = load_lora(lora_file(studio, subject, lora))
            labels.append(f"{SUBJECTS[subject]}, {lora.kind.split()[0]}")
            for row, way in zip(rows, SHOWN.values()):
                ((_, images),) = draw(studio, weights, subject, way, [asked[subject]])
                row.append(images[0])
    told = "; ".join(prompt.plain_text for prompt in asked.values())
    return draw_sweep(
        rows, labels, list(SHOWN), f"LoRAs of rank 4. DCI: T_a 0.5; half LoRA: in the auxiliary branch. {told}."
    )


def write_report() -> None:
    """Write the tables and the contact sheet."""
    found = collected(cells_folder())
    write_text_atomically(RESULT, cell_table(found))
    write_text_atomically(GAPS, gap_table(found))
    sheet = contact_sheet(Studio(cache_folder() / "study"))
    picture = Image.fromarray((sheet.numpy() * 255).round().astype(np.uint8))
    write_atomically(PICTURE, lambda path: picture.save(path, format="JPEG", quality=85))
