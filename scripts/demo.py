"""The main job in the real ComfyUI, from one command: train a concept, turn the dial, show what happened.

Sets up what is missing (Python environment, ComfyUI), starts ComfyUI headless, queues workflows/api/demo.json (demo
model, training on a bundled subject, λ sweep) and leaves a page, output/demo/index.html, and the files it shows. With
--checkpoint and --images it runs workflows/api/train_and_generate.json with a λ sweep on your own instead.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from comfy_install import ROOT, cache_folder, get_comfyui, version_of
from demo_graphs import demo_graph, image_files, own_graph, subject_nouns, subject_of, with_saved_references
from inside import is_inside, start_inside

OUTPUT = ROOT / "output" / "demo"
OTHER_SCENES = (("racing-car", "with an umbrella in the snow"), ("parrot", "with a crown in space"))
"""What to try next: a subject and what is around it."""


def main() -> int:
    """Parse arguments, set up, and run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=list(subject_nouns()), help="bundled subject to learn")
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
    """Run a graph on a server of its own and make the page of what it left."""
    from demo_page import NextLine
    from demo_terminal import Terminal

    started = time.monotonic()
    graph = with_saved_references(graph)
    with Terminal(graph) as terminal:
        terminal.show_stage("Getting ready …")  # PyTorch takes its time
        from workbench.pack import register_pack

        register_pack()
        from demo_results import RunFacts, collect

        from demo_world.judge import load_judge
        from workbench.comfy_server import ComfyServer, RunFailed, there_is_a_gpu

        judge = None if given.checkpoint else load_judge()
        comfyui, base = get_comfyui(), server_folder(given)
        cpu = given.cpu or not there_is_a_gpu()
        device = "the CPU" if cpu else gpu_name()
        terminal.show_stage(f"Starting ComfyUI {version_of(comfyui)} on {device} …")
        try:
            with ComfyServer(comfyui, Path(sys.executable), base, cpu=cpu) as server:
                server.run(graph, terminal)
        except RunFailed as failure:
            terminal.show_end(f"The run failed: {failure}\nComfyUI's log: {base / 'server.log'}")
            return 1
        terminal.show_stage("Drawing the page …")
        facts = RunFacts(
            seconds=time.monotonic() - started,
            training_seconds=terminal.seconds.get("ICOTrainer"),
            device=device,
            next_lines=tuple(NextLine(*line) for line in next_lines(given, subject_of(graph))),
        )
        terminal.show_end("\n" + collect(base, given.output, graph, facts, judge))
    shutil.rmtree(base, ignore_errors=True)
    return 0


def server_folder(given: argparse.Namespace) -> Path:
    """Return a new folder for a server, with the user's checkpoint and images in it; two demos at once must not mix."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="demo-server-", dir=cache_folder()))
    (base / "models" / "checkpoints").mkdir(parents=True)
    (base / "input").mkdir()
    if given.checkpoint:
        (base / "models" / "checkpoints" / given.checkpoint.name).symlink_to(given.checkpoint.resolve())
        for file in image_files(given.images):
            shutil.copy(file, base / "input" / file.name)
    return base


def gpu_name() -> str:
    """Return the name of the GPU that PyTorch computes on."""
    import torch

    return str(torch.cuda.get_device_name())


def next_lines(given: argparse.Namespace, subject: str | None) -> list[tuple[str, str]]:
    """Return what to type after this run: what it does, and the command.

    Args:
        given: on the command line of this run.
        subject: bundled one that was learned; None for one's own.
    """
    command = "python scripts/demo.py"
    if subject is None:
        own = ["--checkpoint", str(given.checkpoint), "--images", str(given.images), "--class-noun", given.class_noun]
        own += ["--prompt", f"a V* {given.class_noun} on the moon"]
        return [("Another prompt:", f"{command} {shlex.join(own)}"), ("The demo model, for comparison:", command)]
    other, scene = next(other for other in OTHER_SCENES if other[0] != subject)
    return [
        ("Another subject in another scene:", f'{command} --subject {other} --scene "{scene}"'),
        ("Your own checkpoint and photographs:", f"{command} --checkpoint FILE --images FOLDER --class-noun cat"),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
