"""Queue many runs in one real server and watch its resident memory; then check that nothing was left on the model.

The demo model learns a subject for a few steps, then every run samples it with DCI and another seed. Before and after, the
plain model is sampled by the stock KSampler: the two pictures must be the same bytes.

COMFYUI_PATH=… python -m benchmarks.queue_memory [--runs 200] [--steps 6] [--json OUT] [-- ARGUMENTS OF COMFYUI'S main.py]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from workbench.comfy_server import ComfyServer, there_is_a_gpu
from workbench.pack import HOST_VARIABLE, ROOT

TARGET = 1.02  # resident memory at the end over that after the warm-up
WINDOW = 20  # runs that a figure is the mean of


def main() -> int:
    """Run, print a summary, and return 1 when memory grew or the plain picture changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    parser.add_argument("--json", type=Path)
    parser.add_argument("arguments", nargs="*", help="of ComfyUI's main.py")
    given = parser.parse_args()
    if given.runs < 3 * WINDOW:
        parser.error(f"--runs must be at least {3 * WINDOW}, but got {given.runs}.")
    comfyui = Path(os.environ[HOST_VARIABLE])
    with tempfile.TemporaryDirectory() as folder:
        result = measure(comfyui, Path(folder), given.runs, given.steps, given.cpu, given.arguments)
    told = {key: value for key, value in result.items() if key != "resident_mb"}
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["growth"] <= TARGET and result["plain_unchanged"] else 1


def measure(comfyui: Path, base: Path, runs: int, steps: int, cpu: bool, arguments: list[str]) -> dict[str, Any]:
    """Return resident memory after every run, its growth, and digests of the pictures."""
    cpu = cpu or not there_is_a_gpu()
    graph = json.loads((ROOT / "workflows" / "api" / "demo.json").read_text())
    graph["10"]["inputs"] |= {"steps": 4, "batch_size": 1}
    sampled = part(graph, "31")
    plain = part(graph, "31", "DCISampler", "KSampler", {"model": ["1", 0], "positive": ["22", 0]})
    resident = []
    with ComfyServer(comfyui, Path(sys.executable), base, arguments, cpu) as server:
        before = picture(server, base, plain, steps, 0)
        first = picture(server, base, sampled, steps, 0)
        for number in range(runs):
            picture(server, base, sampled, steps, number + 1)
            resident.append(resident_mb(server.process_id))
        again = picture(server, base, sampled, steps, 0)
        after = picture(server, base, plain, steps, 0)
    return {
        "runs": runs,
        "device": "CPU" if cpu else "GPU",
        "arguments": arguments,
        "resident_mb": resident,
        "after_warm_up_mb": mean(resident[WINDOW : 2 * WINDOW]),
        "at_the_end_mb": mean(resident[-WINDOW:]),
        "growth": growth(resident),
        "target": TARGET,
        "plain_unchanged": before == after,
        "same_seed_same_picture": first == again,
        "picture": first,
    }


def growth(resident: list[float]) -> float:
    """Return the mean of the last runs over that of the runs after the warm-up."""
    return mean(resident[-WINDOW:]) / mean(resident[WINDOW : 2 * WINDOW])


def mean(values: list[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


def part(
    graph: dict[str, Any], last: str, old: str = "", new: str = "", changes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the nodes that a node's picture needs, with a SaveImage behind; one class may be put in another's place.

    Args:
        graph: in API form.
        last: id of the node whose picture is saved.
        old, new: class names; inputs that `new` does not have are left out.
        changes: inputs of `new`.
    """
    kept = {"9999": {"class_type": "SaveImage", "inputs": {"images": [last, 0], "filename_prefix": "run"}}}
    waiting = [last]
    while waiting:
        name = waiting.pop()
        node = {"class_type": graph[name]["class_type"], "inputs": dict(graph[name]["inputs"])}
        if old and node["class_type"] == old:
            names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "negative", "latent_image", "denoise")
            node = {
                "class_type": new,
                "inputs": {key: node["inputs"][key] for key in names} | (changes or {}),
            }
        kept[name] = node
        waiting += [value[0] for value in node["inputs"].values() if isinstance(value, list) and value[0] not in kept]
    return kept


def picture(server: Any, base: Path, graph: dict[str, Any], steps: int, seed: int) -> str:
    """Queue a graph with a seed and return the SHA-256 of its picture's pixels; the file is deleted."""
    for node in graph.values():
        if node["class_type"] in ("DCISampler", "KSampler"):
            node["inputs"] |= {"seed": seed, "steps": steps}
    entry = server.run(graph)
    if "9999" not in entry["outputs"]:
        raise RuntimeError(f"The run with seed {seed} saved no picture: {entry['status']}")
    file = base / "output" / entry["outputs"]["9999"]["images"][0]["filename"]
    with Image.open(file) as opened:
        digest = hashlib.sha256(opened.convert("RGB").tobytes()).hexdigest()
    file.unlink()
    return digest


def resident_mb(process: int) -> float:
    """Return a process's resident memory (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    raise SystemExit(main())
