"""Gather what a demo run left behind into one folder, score the pictures, and make the page of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from comfy_install import ROOT
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.files import write_atomically
from comfyui_dci.dci_core.sampling.strength import parse_injection_strengths
from comfyui_dci.dci_core.seeds import following_seed
from demo_graphs import REFERENCE_PREFIX, prompt_of, subject_of
from demo_page import DemoResults, LeftFile, NextLine, Shown, score_table_of, scores_note_of
from demo_page_html import html
from demo_page_png import picture
from demo_scores import JUDGED_BY, scores_of
from PIL import Image

from demo_world.judge import Judge
from demo_world.vocabulary import with_article
from workbench.comfy_client import RunFailed

PAGE, PAGE_PICTURE, SUMMARY, CONCEPT, PICTURES = (
    "index.html",
    "demo.png",
    "summary.txt",
    "concept.safetensors",
    "pictures",
)
FOUND = {
    "sweep.png": "dci_sweep_*.png",
    "image.png": "dci_0*.png",
    "masks.png": "dci_masks_*.png",
    "loss.png": "dci_loss_*.png",
}
"""What is copied as it is, and by which names the graph saved it."""
PLAIN = "no DCI"


@dataclass(frozen=True)
class RunFacts:
    """What a run does not leave in its files.

    Args:
        seconds: it took, before its pictures are scored and the page is drawn.
        training_seconds: that the training took; None when unknown.
        device: that computed, "the CPU".
        next_lines: what the page tells to type.
    """

    seconds: float
    training_seconds: float | None = None
    device: str = "the CPU"
    next_lines: tuple[NextLine, ...] = ()


def collect(base: Path, output: Path, graph: dict[str, Any], facts: RunFacts, judge: Judge | None = None) -> str:
    """Copy the results of a server's run, score the pictures, and write a summary and the page.

    What an earlier run left is replaced once everything is there to replace it; other files in the folder stay.

    Args:
        base: the server's folder.
        output: folder for the results.
        graph: that ran, with its references saved.
        facts: of the run.
        judge: of the pictures; None where none knows them, which is everywhere but in the demo world.

    Returns:
        the summary, and where the page is.

    Raises:
        RunFailed: the run saved no concept.
    """
    with tempfile.TemporaryDirectory(dir=base) as folder:
        lines = _make(base, Path(folder), _link_to_readme(output), graph, facts, judge)
        _clear(output)
        made = [file for file in Path(folder).rglob("*") if file.is_file()]
        for file in sorted(made, key=lambda file: file.name == PAGE):  # the page last, when what it shows is there
            _copy(file, output / file.relative_to(folder))
    return "\n".join([*lines, f"Look at {output / PAGE}"])


def _make(
    base: Path, folder: Path, readme: str, graph: dict[str, Any], facts: RunFacts, judge: Judge | None
) -> list[str]:
    """Make everything in an empty folder and return the summary's lines."""
    made, concepts = base / "output", base / "models" / "dci_concepts"
    concept = next(concepts.glob("*.safetensors"), None)
    if concept is None:
        raise RunFailed(f"it saved no concept in {concepts}, so there is nothing to show.")
    _copy(concept, folder / CONCEPT)
    for name, pattern in FOUND.items():
        for file in sorted(made.glob(pattern))[:1]:
            _copy(file, folder / name)
    results = replace(_results(made, folder, graph, facts, judge), readme=readme)
    log = (base / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()
    said = ["DCI: " + line.split("DCI: ", 1)[1] for line in log if "DCI: " in line][-1:]
    lines = [*(f"{file.path}: {file.what}" for file in results.files), *said, *_score_lines(results)]
    lines.append(f"without scoring and drawing the page: {facts.seconds:.0f} s in all")
    _write_text(folder / SUMMARY, "\n".join(lines) + "\n")
    write_atomically(folder / PAGE_PICTURE, lambda file: picture(results).save(file, "PNG"))
    _write_text(folder / PAGE, html(results))
    return lines


def _results(made: Path, folder: Path, graph: dict[str, Any], facts: RunFacts, judge: Judge | None) -> DemoResults:
    """Return what the page shows, having copied the single pictures."""
    nodes = {entry["class_type"]: entry["inputs"] for entry in graph.values()}
    sweep, info = nodes["DCILambdaSweep"], load_concept(folder / CONCEPT).info
    strengths = parse_injection_strengths(sweep["injection_strengths"])
    columns = (PLAIN, *(f"λ {strength:g}" for strength in strengths))
    names = ("no_dci", *(f"lambda_{strength:g}" for strength in strengths))
    files = sorted(made.glob("dci_image_*.png"))
    seeds = [following_seed(sweep["seed"], row) for row in range(len(files) // len(columns))]
    rows = tuple(
        tuple(
            _shown(files[row * len(columns) + column], folder, f"seed_{seed}_{name}.png")
            for column, name in enumerate(names)
        )
        for row, seed in enumerate(seeds)
    )
    references = sorted(made.glob(f"{REFERENCE_PREFIX}_*.png"))
    subject, prompt = subject_of(graph), prompt_of(graph)
    images = [[shown.image for shown in row] for row in rows]
    scores = None if judge is None or subject is None else scores_of(judge, images, columns, prompt, subject)
    masks = folder / "masks.png"
    return DemoResults(
        subject=f"your {info.class_noun}" if subject is None else with_article(subject.replace("-", " ")),
        prompt=prompt,
        device=facts.device,
        steps=info.steps,
        training_seconds=facts.training_seconds,
        seconds=facts.seconds,
        references=tuple(_shown(file, folder, f"reference_{number}.png") for number, file in enumerate(references, 1)),
        columns=columns,
        row_labels=tuple(f"seed {seed}" for seed in seeds),
        rows=rows,
        settings=_settings(sweep),
        masks=Shown(_open(masks), masks.name) if masks.is_file() else None,
        losses=tuple(info.history.get("loss", ())),
        scores=scores,
        judged_by=JUDGED_BY,
        next_lines=facts.next_lines,
        files=_left_files(folder),
    )


def _score_lines(results: DemoResults) -> list[str]:
    """Return the scores as lines of text."""
    if results.scores is None:
        return []
    table = score_table_of(results.scores)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = [f'"{results.prompt}"', scores_note_of(results)]
    for label, *values in table:
        cells = "".join(f"  {value:>{max(width, 8)}}" for value, width in zip(values, widths[1:]))
        lines.append(f"{label:{widths[0]}}{cells}")
    return lines


def _settings(sweep: dict[str, Any]) -> str:
    guidance = "shared" if sweep["share_guidance"] else "exact"
    return (
        f"{sweep['sampler_name']}, {sweep['scheduler']}, {sweep['steps']} steps, cfg {sweep['cfg']:g}, "
        f"active fraction {sweep['active_fraction']:g}, masks {sweep['mask_preset']}, {guidance} guidance"
    )


def _left_files(folder: Path) -> tuple[LeftFile, ...]:
    """Return what lies beside the page, as it tells of it."""
    what = {
        CONCEPT: "the concept; ComfyUI finds it in models/dci_concepts",
        PICTURES: "every picture by itself",
        "sweep.png": "the grid as DCI Lambda Sweep draws it",
        "image.png": "DCI Sampler's picture",
        "masks.png": "its masks",
        "loss.png": "the trainer's own curve",
    }
    left = [
        LeftFile(name, f"{_size(folder / name)}, {text}") for name, text in what.items() if (folder / name).exists()
    ]
    return (*left, LeftFile(SUMMARY, "the scores as text"))


def _size(path: Path) -> str:
    files = list(path.iterdir()) if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.2f} MB"


def _shown(file: Path, folder: Path, name: str) -> Shown:
    _copy(file, folder / PICTURES / name)
    return Shown(_open(file), f"{PICTURES}/{name}")


def _open(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _link_to_readme(output: Path) -> str:
    readme = ROOT / "README.md"
    try:
        return Path(os.path.relpath(readme, output)).as_posix()
    except ValueError:  # on another drive of Windows
        return unquote(readme.as_uri())  # the page quotes it


def _clear(output: Path) -> None:
    """Remove what an earlier run left in a folder, and nothing else; the folder need not exist."""
    for name in (PAGE, PAGE_PICTURE, SUMMARY, CONCEPT, *FOUND):
        (output / name).unlink(missing_ok=True)
    for pattern in ("seed_*.png", "reference_*.png"):
        for file in (output / PICTURES).glob(pattern):
            file.unlink()


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, lambda file: shutil.copyfile(source, file))


def _write_text(target: Path, text: str) -> None:
    write_atomically(target, lambda file: file.write_text(text, encoding="utf-8"))
