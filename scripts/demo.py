"""The main job in the real ComfyUI, from one command: train a concept, turn the dial, show what happened.

Sets up what is missing (Python environment, ComfyUI), starts ComfyUI headless, queues workflows/api/demo.json (demo
model, training on a bundled subject, λ sweep) and leaves everything in output/demo. With --checkpoint and --images it
runs workflows/api/train_and_generate.json on your own instead.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from comfy_install import ROOT, cache_folder, get_comfyui, version_of
from inside import is_inside, start_inside

GRAPHS = ROOT / "workflows" / "api"
OUTPUT = ROOT / "output" / "demo"
SUBJECTS = ROOT / "demo_world" / "release" / "subjects.json"


def main() -> int:
    """Parse arguments, set up, and run; returns the exit status."""
    nouns = {entry["name"]: entry["class_noun"] for entry in json.loads(SUBJECTS.read_text())}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=list(nouns), help="bundled subject to learn")
    parser.add_argument("--scene", help='what is around it, in the demo model\'s words, e.g. "with a ball in the snow"')
    parser.add_argument("--checkpoint", type=Path, help="your own SD1.x, SD2.x or SDXL checkpoint")
    parser.add_argument("--images", type=Path, help="folder with your own reference images, for --checkpoint")
    parser.add_argument("--class-noun", help="what your subject is, for --images")
    parser.add_argument("--prompt", help="with V* and its class noun in it, for --checkpoint")
    parser.add_argument(
        "--class-images", type=int, help="how many to draw, for --checkpoint (default: the node's; 0: none)"
    )
    parser.add_argument("--steps", type=int, help="training steps")
    parser.add_argument("--size", type=int, help="image size in pixels (default: 512 with --checkpoint)")
    parser.add_argument("--cpu", action="store_true", help="compute on the CPU even where there is a GPU")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for the results")
    given = parser.parse_args()
    own = (given.checkpoint, given.images, given.class_noun)
    if any(own) and not all(own):
        parser.error(
            "--checkpoint, --images and --class-noun belong together: give all three, or none for the demo model"
        )
    if not is_inside():
        return start_inside(get_comfyui())
    return run_demo(own_graph(given) if given.checkpoint else demo_graph(given), given)


def run_demo(graph: dict[str, Any], given: argparse.Namespace) -> int:
    """Run a graph on a server of its own and collect the results."""
    from demo_results import collect

    from workbench.comfy_server import ComfyServer, RunFailed, there_is_a_gpu

    started = time.monotonic()
    comfyui, python = get_comfyui(), Path(sys.executable)
    cache_folder().mkdir(parents=True, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="demo-server-", dir=cache_folder()))  # two demos at once must not mix
    (base / "models" / "checkpoints").mkdir(parents=True)
    (base / "input").mkdir()
    if given.checkpoint:
        (base / "models" / "checkpoints" / given.checkpoint.name).symlink_to(given.checkpoint.resolve())
        for file in image_files(given.images):
            shutil.copy(file, base / "input" / file.name)
    cpu = given.cpu or not there_is_a_gpu()
    print(f"Starting ComfyUI {version_of(comfyui)} on the {'CPU' if cpu else 'GPU'} …", flush=True)
    with ComfyServer(comfyui, python, base, cpu=cpu) as server:
        try:
            server.run(graph, _Terminal(graph))
        except RunFailed as failure:
            print(f"\nThe run failed: {failure}\nComfyUI's log: {server.log}", flush=True)
            return 1
    collect(base, given.output, graph, time.monotonic() - started)
    shutil.rmtree(base, ignore_errors=True)
    return 0


def demo_graph(given: argparse.Namespace) -> dict[str, Any]:
    """Return the shipped demo graph with what was asked for in it."""
    graph: dict[str, Any] = json.loads((GRAPHS / "demo.json").read_text())
    nodes = {entry["class_type"]: entry["inputs"] for entry in graph.values()}
    subject, builder = nodes["DCIDemoSubject"], nodes["AuxPromptBuilder"]
    subject["subject"] = given.subject or subject["subject"]
    nodes["ICOTrainer"]["steps"] = given.steps or nodes["ICOTrainer"]["steps"]
    noun = {e["name"]: e["class_noun"] for e in json.loads(SUBJECTS.read_text())}[subject["subject"]]
    before, after = builder["prompt"].split("V* ", 1)
    scene = given.scene or after.split(" ", 1)[1]
    builder["prompt"] = f"{before}V* {noun} {scene}"
    taken = {noun, *scene.split()}
    builder["auxiliary_noun"] = next(word for word in (builder["auxiliary_noun"], "dog", "bird") if word not in taken)
    return graph


def own_graph(given: argparse.Namespace) -> dict[str, Any]:
    """Return the shipped graph for any checkpoint, with the user's checkpoint, images and words in it."""
    graph: dict[str, Any] = json.loads((GRAPHS / "train_and_generate.json").read_text())
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
    return graph


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder in the order of their names; ends the program when there are none."""
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not files:
        raise SystemExit(f"There are no images in {folder}. Give a folder with .png, .jpg or .webp files.")
    return files


class _Terminal:
    """Prints a line per node. On a terminal it counts along while the node runs; elsewhere it appears when the node ends."""

    def __init__(self, graph: dict[str, Any]) -> None:
        self._graph = graph
        self._node = ""
        self._status = ""

    def __call__(self, kind: str, data: dict[str, Any]) -> None:
        node = data.get("node")
        if kind == "executing" and node != self._node:
            if self._node:
                print(f"\r\x1b[K{self._line()}" if sys.stdout.isatty() else self._line(), flush=True)
            self._node, self._status = node or "", ""
        elif kind == "text":
            self._status = data["text"].splitlines()[-1]  # the trainer says above it how the whole run is
        elif kind == "progress" and data["max"] > 1 and not self._status.startswith(("step ", "class image ")):
            self._status = f"{data['value']} of {data['max']}"
        if self._node and sys.stdout.isatty():
            print(f"\r\x1b[K{self._line()[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)

    def _line(self) -> str:
        return f"  {self._graph[self._node]['class_type']}  {self._status}".rstrip()


if __name__ == "__main__":
    raise SystemExit(main())
