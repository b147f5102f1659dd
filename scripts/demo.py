"""The main job in the real ComfyUI, from one command: train a concept, generate with it, show what happened.

Sets up what is missing (Python environment, ComfyUI, a small checkpoint, reference images), starts ComfyUI
headless, queues workflows/api/train_and_generate.json and leaves everything in output/demo.
The small checkpoint has random weights: it shows that the graph works, not what the method can do. Give your own
with --checkpoint and --images to see that.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from comfy_install import ROOT, cache_folder, get_comfyui, version_of
from environment import environment_for

GRAPH = ROOT / "workflows" / "api" / "train_and_generate.json"
OUTPUT = ROOT / "output" / "demo"
SMALL_CHECKPOINT = "dci-small-sd1-layout-1.safetensors"
REFERENCES = 4
RUNNING_INSIDE = "COMFYUI_DCI_DEMO"


def main() -> int:
    """Parse arguments, set up, and run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="your own SD1.x, SD2.x or SDXL checkpoint")
    parser.add_argument("--images", type=Path, help="folder with your own reference images")
    parser.add_argument("--class-noun", default="toy", help="what your subject is (default: toy)")
    parser.add_argument("--prompt", default=None, help='with V* in it (default: "a V* <class noun> in times square")')
    parser.add_argument("--steps", type=int, default=40, help="training steps (default: 40)")
    parser.add_argument(
        "--size", type=int, default=None, help="image size in pixels (default: 128 without --checkpoint, else 512)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for the results")
    given = parser.parse_args()
    if not os.environ.get(RUNNING_INSIDE):
        return _run_inside_environment()
    return run_demo(given)


def run_demo(given: argparse.Namespace) -> int:
    """Run the graph on a server of its own and collect the results."""
    from comfy_server import ComfyServer, RunFailed

    started = time.monotonic()
    comfyui, python = get_comfyui(), Path(sys.executable)
    checkpoint = given.checkpoint or make_small_checkpoint(comfyui, python, cache_folder())
    given.size = given.size or (512 if given.checkpoint else 128)
    base = cache_folder() / "demo-server"
    shutil.rmtree(base, ignore_errors=True)
    (base / "models" / "checkpoints").mkdir(parents=True)
    (base / "models" / "checkpoints" / checkpoint.name).symlink_to(checkpoint.resolve())
    (base / "input").mkdir()
    names = _copy_images(given.images, base / "input") if given.images else draw_references(base / "input")
    graph = demo_graph(checkpoint.name, names, given)
    print(f"Starting ComfyUI {version_of(comfyui)} …", flush=True)
    with ComfyServer(comfyui, python, base) as server:
        try:
            server.run(graph, _Terminal(graph))
        except RunFailed as failure:
            print(f"\nThe run failed: {failure}\nComfyUI's log: {server.log}", flush=True)
            return 1
    _collect(base, given.output, time.monotonic() - started, own_checkpoint=given.checkpoint is not None)
    return 0


def demo_graph(checkpoint: str, images: list[str], given: argparse.Namespace) -> dict[str, Any]:
    """Return the shipped graph with the demo's checkpoint, images and sizes in it."""
    graph: dict[str, Any] = json.loads(GRAPH.read_text())
    graph["1"]["inputs"]["ckpt_name"] = checkpoint
    for node in [key for key, entry in graph.items() if entry["class_type"] == "LoadImage"]:
        del graph[node]
    graph["6"]["inputs"] = {f"images.image{index}": [f"image{index}", 0] for index in range(len(images))}
    for index, name in enumerate(images):
        graph[f"image{index}"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    graph["10"]["inputs"] |= {
        "class_noun": given.class_noun,
        "steps": given.steps,
        "resolution": given.size,
    }
    graph["21"]["inputs"]["prompt"] = given.prompt or f"a V* {given.class_noun} in times square"
    graph["23"]["inputs"] |= {"width": given.size, "height": given.size}
    return graph


def make_small_checkpoint(comfyui: Path, python: Path, folder: Path) -> Path:
    """Return the small checkpoint, making it on first use (150 million random weights, 300 MB)."""
    path = folder / SMALL_CHECKPOINT
    if not path.is_file():
        print("Making a small checkpoint with random weights …", flush=True)
        script = ROOT / "scripts" / "small_checkpoint.py"
        environment = {**os.environ, "PYTHONPATH": str(comfyui)}
        subprocess.run([str(python), str(script), str(path)], env=environment, check=True)
    return path


def draw_references(folder: Path) -> list[str]:
    """Draw a striped ball on four backgrounds, as reference images, and return their file names."""
    from PIL import Image, ImageDraw

    names = []
    for index in range(REFERENCES):
        picture = Image.new("RGB", (256, 256), ((70, 120, 80), (200, 190, 160), (120, 150, 190), (90, 80, 100))[index])
        draw = ImageDraw.Draw(picture)
        center, radius = (112 + 10 * index, 140 - 8 * index), 70 + 5 * index
        box = [center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius]
        draw.ellipse(box, (220, 60, 50))
        for stripe in range(-2, 3):
            height = stripe * radius // 3
            width = int(math.sqrt(radius**2 - height**2))
            line = [(center[0] - width, center[1] + height), (center[0] + width, center[1] + height)]
            draw.line(line, (250, 220, 80), 6)
        names.append(f"reference_{index + 1}.png")
        picture.save(folder / names[-1])
    return names


class _Terminal:
    """Prints what ComfyUI is doing."""

    def __init__(self, graph: dict[str, Any]) -> None:
        self._graph = graph
        self._node = ""

    def __call__(self, kind: str, data: dict[str, Any]) -> None:
        node = data.get("node")
        if kind == "executing" and node and node != self._node:
            self._node = node
            print(f"  {self._graph[node]['class_type']}", flush=True)
        elif kind == "text":
            print(f"    {data['text']}", flush=True)


def _copy_images(folder: Path, target: Path) -> list[str]:
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not files:
        raise SystemExit(f"There are no images in {folder}. Give a folder with .png, .jpg or .webp files.")
    for file in files:
        shutil.copy(file, target / file.name)
    return [file.name for file in files]


def _collect(base: Path, output: Path, seconds: float, own_checkpoint: bool) -> None:
    output.mkdir(parents=True, exist_ok=True)
    results = {
        "concept": (base / "models" / "dci_concepts").glob("*.safetensors"),
        "image": (base / "output").glob("dci_0*.png"),
        "masks": (base / "output").glob("dci_masks_*.png"),
        "loss": (base / "temp").glob("*.png"),
    }
    lines = []
    for name, files in results.items():
        found = sorted(files)
        if name == "loss":  # the host previews it; the mask preview is larger and saved anyway
            found = [f for f in found if _size_of(f) == (840, 520)]
        target = output / f"{name}{found[0].suffix}"
        shutil.copy(found[0], target)
        lines.append(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB")
    report = [line.split("DCI: ", 1)[1] for line in (base / "server.log").read_text().splitlines() if "DCI: " in line]
    lines += [f"DCI: {line}" for line in report]
    lines.append(f"{seconds:.0f} s in all")
    if not own_checkpoint:
        lines.append(
            "The checkpoint has random weights, so the image is noise: this run shows that everything works together."
        )
    (output / "summary.txt").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines) + f"\nEverything is in {output}", flush=True)


def _size_of(file: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(file) as picture:
        return picture.size


def _run_inside_environment() -> int:
    python = environment_for(get_comfyui())
    environment = {**os.environ, RUNNING_INSIDE: "1"}
    return subprocess.run([str(python), __file__, *sys.argv[1:]], env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
