"""Gather what a demo run left behind into one folder, judge the pictures, and sum up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from demo_world.classifier import NAMES, load_judge, to_tensor


def collect(base: Path, output: Path, graph: dict[str, Any], seconds: float) -> None:
    """Copy the results of a server's run and write summary.txt.

    Args:
        base: the server's folder.
        output: folder for the results; what an earlier run left there is replaced.
        graph: that ran.
        seconds: it took.
    """
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    made = base / "output"
    found = {
        "concept": sorted((base / "models" / "dci_concepts").glob("*.safetensors")),
        "sweep": sorted(made.glob("dci_sweep_*.png")),
        "image": sorted(made.glob("dci_0*.png")),
        "masks": sorted(made.glob("dci_masks_*.png")),
        "loss": sorted(made.glob("dci_loss_*.png")),
    }
    lines = []
    for name, files in found.items():
        if files:
            target = output / f"{name}{files[0].suffix}"
            shutil.copy(files[0], target)
            lines.append(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB")
    log = (base / "server.log").read_text().splitlines()
    lines += ["DCI: " + line.split("DCI: ", 1)[1] for line in log if "DCI: " in line][-1:]
    lines += scores(sorted(made.glob("dci_image_*.png")), graph)
    lines.append(f"{seconds:.0f} s in all")
    (output / "summary.txt").write_text("\n".join(lines) + "\n")
    print("\n\n" + "\n".join(lines) + f"\nEverything is in {output}", flush=True)


def scores(images: list[Path], graph: dict[str, Any]) -> list[str]:
    """Judge the single pictures of a λ sweep on the demo model: a line per λ, averaged over the seeds."""
    nodes = {entry["class_type"]: entry["inputs"] for entry in graph.values()}
    if "DCIDemoSubject" not in nodes:
        return []
    prompt = nodes["AuxPromptBuilder"]["prompt"]
    pictures = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in images])
    heads = load_judge()(to_tensor(pictures))
    judged = {"likeness": ("subject", nodes["DCIDemoSubject"]["subject"]), **_asked(prompt, NAMES)}
    found = [heads[head].softmax(1)[:, NAMES[head].index(wanted)] for head, wanted in judged.values()]
    labels = ["no DCI", *(f"λ {value.strip()}" for value in nodes["DCILambdaSweep"]["injection_strengths"].split(","))]
    lines = [f'"{prompt}", {len(images) // len(labels)} seeds, judged by the demo world\'s classifier:']
    lines.append(f"{'':8}" + "".join(f"  {title:>8}" for title in judged))
    for column, label in enumerate(labels):
        values = [float(score[column :: len(labels)].mean()) for score in found]
        lines.append(
            f"{label:8}" + "".join(f"  {value:{max(len(title), 8)}.2f}" for title, value in zip(judged, values))
        )
    lines.append("likeness: is it this very subject; the others: is what the prompt asks for there")
    return lines


def _asked(prompt: str, names: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, str]]:
    """Return what a prompt asks for beside the subject: its title, the judge's head, and the class it must name."""
    words, asked = prompt.split(), {}
    companion = words[words.index("with") + 2] if "with" in words[:-2] else ""
    if companion and companion in names["second_noun"]:
        asked[companion] = ("second_noun", companion)
    place = next((context for context in names["context"] if context and prompt.endswith(context)), "")
    if place or not asked:
        asked[place or "plain backdrop"] = ("context", place)
    return asked
