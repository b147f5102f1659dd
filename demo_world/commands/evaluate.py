"""Draw fresh captions with a demo model in ComfyUI's own sampler, and let the judge say how many come out right.

Drawn pictures are kept, so that a stopped evaluation goes on and another judge can look at the same ones. Start it twice,
with --part 0 2 and --part 1 2, to use two cores; then once without, for the table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from comfyui_dci.dci_core.files import write_atomically
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo_world.commands.options import add_part, positive_float, positive_int
from demo_world.fresh import fresh_scenes
from demo_world.gate import CAPTION_SEED, contact_sheet, facts, gate_lines, table
from demo_world.judge import Reading, load_judge
from demo_world.placement import PICTURE_PX
from demo_world.precision import fast_matrices
from demo_world.scenes import caption
from demo_world.storage import RELEASE, cache_folder, training_log
from demo_world.truth import tallies, truth_of
from workbench.pack import load_pack

BATCH = 10
SHEET = 60


class Sampler:
    """A demo model behind the host's own sampler.

    Args:
        models: the host's MODEL, CLIP and VAE.
        steps: of Euler, normal schedule.
        cfg: guidance.
        fast: compute matrices in bfloat16 where the processor can.
    """

    def __init__(self, models: tuple[Any, Any, Any], steps: int = 20, cfg: float = 5.0, fast: bool = False) -> None:
        self._model, self._clip, self._vae = models
        self._steps, self._cfg, self._fast = steps, cfg, fast

    @torch.inference_mode()
    def draw(self, captions: Sequence[str], seed: int) -> Tensor:
        """Pictures of captions, [B, 3, PICTURE_PX, PICTURE_PX], uint8."""
        import nodes

        positive, negative = self._encode(captions), self._encode([""])
        latent = {"samples": torch.zeros(len(captions), 4, PICTURE_PX // 8, PICTURE_PX // 8)}
        precision: AbstractContextManager[Any] = fast_matrices() if self._fast else nullcontext()
        with precision:
            (drawn,) = nodes.common_ksampler(
                self._model, seed, self._steps, self._cfg, "euler", "normal", positive, negative, latent
            )
            pictures = self._vae.decode(drawn["samples"])
        return (pictures.movedim(-1, 1).clamp(0, 1) * 255).round().byte().cpu().contiguous()

    def _encode(self, captions: Sequence[str]) -> list[Any]:
        """One conditioning that holds the rows of all captions."""
        import nodes

        rows = [nodes.CLIPTextEncode().encode(self._clip, text)[0][0] for text in captions]
        options = {"pooled_output": torch.cat([row[1]["pooled_output"] for row in rows])}
        return [[torch.cat([row[0] for row in rows]), options]]


@torch.inference_mode()
def load_sampler(path: Path, steps: int, cfg: float, fast: bool) -> Sampler:
    """Load the pack and a file of the demo model; see ``Sampler``."""
    load_pack()
    from comfyui_dci.nodes.host.demo_model import load_model_file

    return Sampler(load_model_file(path), steps, cfg, fast)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=RELEASE / "dci-demo.safetensors")
    parser.add_argument(
        "--count", type=positive_int, default=1000, help=f"captions; they are drawn in groups of {BATCH}"
    )
    parser.add_argument("--steps", type=positive_int, default=20)
    parser.add_argument("--guidance", type=positive_float, default=5.0)
    parser.add_argument("--fast", action="store_true", help="matrices in bfloat16 on a processor that has it")
    add_part(parser, "batch, and no table")
    arguments = parser.parse_args()
    if not arguments.model.is_file():
        parser.error(f"--model: {arguments.model} is no file; give a model file")
    log = training_log("evaluate")
    count = arguments.count
    scenes = fresh_scenes(-(-count // BATCH) * BATCH, CAPTION_SEED)  # whole batches, so that any count can use them
    captions = [caption(scene) for scene in scenes]
    setting = f"{arguments.steps}-{arguments.guidance:g}{'-bf16' if arguments.fast else ''}"
    folder = cache_folder() / "gate" / f"{hashlib.sha256(arguments.model.read_bytes()).hexdigest()[:12]}-{setting}"
    batches = [(start, folder / f"{start:04d}.safetensors") for start in range(0, count, BATCH)]
    first, step = arguments.part or (0, 1)
    missing = [(start, path) for start, path in batches[first::step] if not path.exists()]
    sampler = load_sampler(arguments.model, arguments.steps, arguments.guidance, arguments.fast) if missing else None
    for number, (start, path) in enumerate(missing, start=1):
        assert sampler is not None
        started = time.monotonic()
        pictures = sampler.draw(captions[start : start + BATCH], CAPTION_SEED + start)
        write_atomically(path, partial(save_file, {"pictures": pictures}))
        log.info("batch %d of %d: %.1f s a picture", number, len(missing), (time.monotonic() - started) / len(pictures))
    if arguments.part:
        return
    pictures = torch.cat([load_file(path)["pictures"] for _, path in batches])[:count]
    scenes, captions = scenes[:count], captions[:count]
    judge = load_judge()
    reading = Reading.joined([judge.read(part.float() / 255) for part in pictures.split(100)])
    lines = gate_lines(tallies(reading, truth_of(scenes)))
    log.info("%d captions, %s:\n%s", count, setting, table(lines))
    text = json.dumps({"setting": setting, "captions": count, "lines": facts(lines)}, indent=1)
    write_atomically(folder / f"gate-{count}.json", lambda path: path.write_text(text + "\n"))
    sheet = contact_sheet(pictures[:SHEET].permute(0, 2, 3, 1).numpy(), captions[:SHEET], columns=10)
    write_atomically(folder / f"samples-{count}.jpg", lambda path: sheet.save(path, format="JPEG", quality=90))
    log.info("table and pictures: %s", folder)


if __name__ == "__main__":
    main()
