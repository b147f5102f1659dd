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
from demo_graphs import (
    OTHER_SCENES,
    demo_graph,
    image_files,
    own_graph,
    prompt_of,
    subject_nouns,
    subject_of,
    with_saved_references,
)
from inside import is_inside, start_inside

OUTPUT = ROOT / "output" / "demo"
COMMAND = "python scripts/demo.py"
ON_THE_CPU = ["--use-pytorch-cross-attention"]  # far faster there than the attention that ComfyUI takes by itself
OTHER_SUBJECTS = ("racing-car", "parrot")
OTHER_PLACES = ("on the moon", "on a beach")
"""What to try next, on the demo model and on one's own."""
FOR_DEMO_MODEL, FOR_OWN = ("subject", "scene"), ("prompt", "size", "class_images")
"""Options that mean something on one of them only."""


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
    parser.add_argument("--size", type=int, help="image size in pixels, for --checkpoint (default: 512)")
    parser.add_argument("--cpu", action="store_true", help="compute on the CPU even where there is a GPU")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for the results")
    given = parser.parse_args()
    refused = refusal(given)
    if refused is not None:
        parser.error(refused)
    if not is_inside():
        return start_inside(get_comfyui())
    return run_demo(own_graph(given) if given.checkpoint else demo_graph(given), given)


def refusal(given: argparse.Namespace) -> str | None:
    """Return why a command line cannot be followed and what to do about it; None where it can."""
    own = (given.checkpoint, given.images, given.class_noun)
    if any(value is not None for value in own) and not all(own):
        return "--checkpoint, --images and --class-noun belong together: give all three, or none for the demo model"
    names = FOR_DEMO_MODEL if given.checkpoint else FOR_OWN
    out_of_place = ", ".join(_option(name) for name in names if getattr(given, name) is not None)
    if out_of_place and given.checkpoint:
        return f"{out_of_place}: for the demo model only; leave it out and say in --prompt what to draw"
    if out_of_place:
        return f"{out_of_place}: for your own checkpoint only; leave it out, or give --checkpoint, --images and --class-noun"
    for name in ("steps", "size"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            return f"{_option(name)} is {getattr(given, name)}; give 1 or more, or leave it out"
    if given.prompt is not None and "V*" not in given.prompt:
        return f'--prompt is "{given.prompt}"; it needs V* and the class noun, such as "a V* {given.class_noun} on a beach"'
    if given.checkpoint and not given.checkpoint.is_file():
        return f"--checkpoint is {given.checkpoint}, but there is no such file; give a .safetensors file"
    if given.checkpoint and given.checkpoint.suffix == ".safetensors" and not begins_as_safetensors(given.checkpoint):
        return f"--checkpoint is {given.checkpoint}, which is damaged or no safetensors file; download it again"
    if given.images and not given.images.is_dir():
        return f"--images is {given.images}, but there is no such folder; give the folder with your images"
    folder = given.output.absolute()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        return f"--output is {given.output}, but {nearest} is a file; give a folder, which need not exist"
    return None


def begins_as_safetensors(file: Path) -> bool:
    """Whether a file begins with the length of a header that fits into it, and with a JSON object."""
    with file.open("rb") as opened:
        length, brace = int.from_bytes(opened.read(8), "little"), opened.read(1)
    return brace == b"{" and length <= file.stat().st_size - 8


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
        from workbench.comfy_client import RunFailed
        from workbench.comfy_server import ComfyServer, there_is_a_gpu

        judge = None if given.checkpoint else load_judge()
        comfyui, base = get_comfyui(), server_folder(given)
        cpu = given.cpu or not there_is_a_gpu()
        device = "the CPU" if cpu else gpu_name()
        terminal.show_stage(f"Starting ComfyUI {version_of(comfyui)} on {device} …")
        try:
            with ComfyServer(comfyui, Path(sys.executable), base, ON_THE_CPU if cpu else [], cpu) as server:
                server.run(graph, terminal)
            terminal.show_stage("Drawing the page …")
            facts = RunFacts(
                seconds=time.monotonic() - started,
                training_seconds=terminal.seconds.get("ICOTrainer"),
                device=device,
                next_lines=tuple(NextLine(*line) for line in next_lines(given, graph)),
            )
            terminal.show_end("\n" + collect(base, given.output, graph, facts, judge))
        except RunFailed as failure:
            terminal.show_end(f"The run failed: {failure}\nComfyUI's log: {base / 'server.log'}")
            return 1
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


def next_lines(given: argparse.Namespace, graph: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what to type after this run: what it does, and the command, with the options of this run where they suit.

    Args:
        given: on the command line of this run.
        graph: that ran.
    """
    subject, prompt = subject_of(graph), prompt_of(graph)
    on_another_model = shlex.join([*COMMAND.split(), *_typed(given, "cpu")])
    if subject is None:
        place = next(place for place in OTHER_PLACES if not prompt.endswith(place))
        own = [*_typed(given, "checkpoint", "images", "class_noun"), "--prompt", f"a V* {given.class_noun} {place}"]
        own += _typed(given, "class_images", "steps", "size", "cpu", "output")
        return [
            ("Another prompt:", f"{COMMAND} {shlex.join(own)}"),
            ("The demo model, for comparison:", on_another_model),
        ]
    other = next(other for other in OTHER_SUBJECTS if other != subject)
    scene = next(scene for scene in OTHER_SCENES if not prompt.endswith(scene))
    more = shlex.join(_typed(given, "steps", "cpu", "output"))
    return [
        ("Another subject in another scene:", f'{COMMAND} --subject {other} --scene "{scene}" {more}'.rstrip()),
        (
            "Your own checkpoint and photographs:",
            f"{on_another_model} --checkpoint FILE --images FOLDER --class-noun cat",
        ),
    ]


def _typed(given: argparse.Namespace, *names: str) -> list[str]:
    """Return those of the named options that were given, as they are typed."""
    typed: list[str] = []
    for name in names:
        value = getattr(given, name)
        if value is None or value is False or value == OUTPUT:
            continue
        typed += [_option(name)] if value is True else [_option(name), str(value)]
    return typed


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


if __name__ == "__main__":
    raise SystemExit(main())
