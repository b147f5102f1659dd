"""The shipped graphs with what was asked for in them, for the server that the demo starts."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from comfy_install import ROOT

GRAPHS = ROOT / "workflows" / "api"
SUBJECTS = ROOT / "demo_world" / "release" / "subjects.json"
REFERENCE_PREFIX = "dci_reference"
OWN_STRENGTHS, OWN_SEEDS = "-2, -1, 0, 1, 2", 2
"""The sweep of a checkpoint of one's own."""
OTHER_SCENES = ("with an umbrella in the snow", "with a crown in space")
"""In the demo model's words, where the shipped one does not suit."""


def subject_nouns() -> dict[str, str]:
    """Return the bundled subjects and their class nouns."""
    return {entry["name"]: entry["class_noun"] for entry in json.loads(SUBJECTS.read_text(encoding="utf-8"))}


def subject_of(graph: dict[str, Any]) -> str | None:
    """Return the bundled subject that a graph learns; None where it learns from the user's images."""
    found = (entry["inputs"]["subject"] for entry in graph.values() if entry["class_type"] == "DCIDemoSubject")
    return next(found, None)


def prompt_of(graph: dict[str, Any]) -> str:
    """Return the prompt that a graph draws."""
    builder = next(entry["inputs"] for entry in graph.values() if entry["class_type"] == "AuxPromptBuilder")
    return str(builder["prompt"]).strip()


def demo_graph(given: argparse.Namespace) -> dict[str, Any]:
    """Return the shipped demo graph with what was asked for in it; a shipped scene never has the subject's noun in it."""
    graph: dict[str, Any] = json.loads((GRAPHS / "demo.json").read_text(encoding="utf-8"))
    nodes = {entry["class_type"]: entry["inputs"] for entry in graph.values()}
    subject, builder = nodes["DCIDemoSubject"], nodes["AuxPromptBuilder"]
    subject["subject"] = given.subject or subject["subject"]
    nodes["ICOTrainer"]["steps"] = given.steps or nodes["ICOTrainer"]["steps"]
    noun = subject_nouns()[subject["subject"]]
    before, after = builder["prompt"].split("V* ", 1)
    shipped = (after.split(" ", 1)[1], *OTHER_SCENES)
    scene = next(scene for scene in shipped if noun not in words_of(scene)) if given.scene is None else given.scene
    builder["prompt"] = f"{before}V* {noun} {scene}".strip()
    taken = {noun, *words_of(scene)}
    nouns = (builder["auxiliary_noun"], "dog", "bird", "cat")
    builder["auxiliary_noun"] = next((word for word in nouns if word not in taken), "auto")
    return graph


def words_of(text: str) -> list[str]:
    """Return the words of a text in small letters, without what is between them."""
    return re.findall(r"[a-z]+", text.lower())


def own_graph(given: argparse.Namespace) -> dict[str, Any]:
    """Return the shipped graph for any checkpoint, with the user's checkpoint, images and words in it."""
    graph: dict[str, Any] = json.loads((GRAPHS / "train_and_generate.json").read_text(encoding="utf-8"))
    graph["1"]["inputs"]["ckpt_name"] = given.checkpoint.name
    for node in [key for key, entry in graph.items() if entry["class_type"] == "LoadImage"]:
        del graph[node]
    names = [file.name for file in image_files(given.images)]
    graph["6"]["inputs"] = {f"images.image{index}": [f"image{index}", 0] for index in range(len(names))}
    for index, name in enumerate(names):
        graph[f"image{index}"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    size = given.size or 512
    graph["7"]["inputs"]["value"] = given.class_noun
    graph["8"]["inputs"]["resolution"] = graph["10"]["inputs"]["resolution"] = size
    graph["10"]["inputs"]["steps"] = given.steps or graph["10"]["inputs"]["steps"]
    if given.class_images == 0:
        del graph["8"], graph["10"]["inputs"]["regularization_images"], graph["10"]["inputs"]["regularization_captions"]
    elif given.class_images is not None:
        graph["8"]["inputs"]["count"] = given.class_images
    graph["21"]["inputs"]["prompt"] = given.prompt or f"a V* {given.class_noun} in times square"
    graph["23"]["inputs"] |= {"width": size, "height": size}
    return graph | sweep_nodes(graph)


def sweep_nodes(graph: dict[str, Any]) -> dict[str, Any]:
    """Return the nodes that turn the dial where a graph has one DCI Sampler: a λ sweep with its inputs, and what saves it."""
    sampler = next(entry["inputs"] for entry in graph.values() if entry["class_type"] == "DCISampler")
    decoder = next(entry["inputs"] for entry in graph.values() if entry["class_type"] == "VAEDecode")
    inputs = {name: value for name, value in sampler.items() if name != "injection_strength"}
    inputs |= {"vae": decoder["vae"], "injection_strengths": OWN_STRENGTHS, "seed_count": OWN_SEEDS}
    saved = {
        f"sweep_{prefix}": {
            "class_type": "SaveImage",
            "inputs": {"images": ["sweep", output], "filename_prefix": f"dci_{prefix}"},
            "_meta": {"title": title},
        }
        for output, (prefix, title) in enumerate((("sweep", "Save grid"), ("image", "Save images")))
    }
    sweep = {"class_type": "DCILambdaSweep", "inputs": inputs, "_meta": {"title": "DCI Lambda Sweep"}}
    return {"sweep": sweep, **saved}


def with_saved_references(graph: dict[str, Any]) -> dict[str, Any]:
    """Return a graph that also saves the reference images, as its trainer is given them."""
    trainer = next(entry["inputs"] for entry in graph.values() if entry["class_type"] == "ICOTrainer")
    saved = {"images": trainer["images"], "filename_prefix": REFERENCE_PREFIX}
    node = {"class_type": "SaveImage", "inputs": saved, "_meta": {"title": "Save references"}}
    return {**graph, "references": node}


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder in the order of their names; ends the program when there are none."""
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not files:
        raise SystemExit(f"There are no images in {folder}. Give a folder with .png, .jpg or .webp files.")
    return files
