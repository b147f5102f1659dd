"""Train the judge on the drawn pool and measure it on fresh drawings. Resumes by default; --export writes the release."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
import torch.nn.functional as F
from comfyui_dci.dci_core.files import write_atomically
from safetensors.torch import save_file
from torch import Tensor

from demo_world.commands.options import positive_float, positive_int
from demo_world.degradation import degrade
from demo_world.fresh import FRESH_SEED, fresh_scenes, fresh_subjects
from demo_world.judge import JUDGE_FILE, Judge, Reading, Scores
from demo_world.pool import Pool, draw_views, drawings_hash, load_pool_checkpoint, open_pool
from demo_world.precision import fast_matrices
from demo_world.renderer import Renderer
from demo_world.scenes import Scene
from demo_world.schedule import warmup_stable_decay
from demo_world.storage import cache_folder, save_checkpoint, training_log
from demo_world.truth import Truth, tallies, truth_of

CHECKPOINT = "judge.pt"
PLACE_WEIGHT = 2.0  # of finding the objects, beside naming them
SAVE_SECONDS = 120.0


def loss_of(scores: Scores, masks: Tensor, truth: Truth) -> Tensor:
    """Cross-entropies of places and names; a companion counts where there is one.

    Args:
        scores: of B pictures.
        masks: [B, 2, CELLS, CELLS] in 0 … 1.
        truth: of the same pictures, on the same device.
    """
    places = torch.cat([(1 - masks.sum(dim=1, keepdim=True)).clamp(min=0), masks], dim=1)
    paired = truth.second_noun > 0
    loss = PLACE_WEIGHT * F.cross_entropy(scores.place.float(), places)
    loss = loss + F.cross_entropy(scores.exemplar.float(), truth.exemplar)
    companion = F.cross_entropy(scores.companion.float(), truth.companion, reduction="none")
    loss = loss + (companion * paired).sum() / paired.sum().clamp(min=1)
    loss = loss + F.binary_cross_entropy_with_logits(scores.paired.float(), paired.float())
    for name in ("context", "style", "colour"):
        loss = loss + F.cross_entropy(getattr(scores, name).float(), getattr(truth, name))
    return loss


def measure(judge: Judge, renderer: Renderer, scenes: list[Scene]) -> str:
    """How often the judge is right on drawings of scenes, as text."""
    pictures, _ = draw_views(renderer, scenes, torch.Generator().manual_seed(FRESH_SEED))
    judge.eval()
    device = next(judge.parameters()).device
    parts = [judge.read(part.to(device).float() / 255) for part in pictures.split(500)]
    reading = Reading.joined(parts, "cpu")
    judge.train()
    found = tallies(reading, truth_of(scenes))
    return ", ".join(f"{name} {100 * tally.share:.2f} % of {tally.of}" for name, tally in found.items())


def export(judge: Judge) -> None:
    """Write the judge in half precision to the release folder."""
    values = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in judge.state_dict().items()
    }
    write_atomically(JUDGE_FILE, lambda path: save_file(values, path, {"format": "pt"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", type=positive_int, default=2000, help="length of the whole run; its last part anneals"
    )
    parser.add_argument("--batch", type=positive_int, default=64)
    parser.add_argument("--learning-rate", type=positive_float, default=2e-3)
    parser.add_argument("--fresh", type=positive_int, default=2000, help="fresh drawings to measure on")
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    parser.add_argument("--export", action="store_true", help="write the release file at the end")
    arguments = parser.parse_args()

    log, path = training_log("judge"), cache_folder() / CHECKPOINT
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    judge = Judge().to(device)
    network: Any = judge  # torch's types do not know the argument
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=arguments.learning_rate, weight_decay=0.02)
    step, drawings = 0, drawings_hash()
    if path.exists() and not arguments.restart:
        state = load_pool_checkpoint(path, drawings)
        judge.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    log.info("%d parameters, from step %d", sum(p.numel() for p in judge.parameters()), step)

    def save() -> None:
        state = {"model": judge.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "drawings": drawings}
        save_checkpoint(path, state)

    pool, saved = open_pool(), time.monotonic()
    truth = truth_of(pool.scenes)
    while step < arguments.steps:
        for group in optimizer.param_groups:
            share = warmup_stable_decay(step, arguments.steps, warmup=50, decay_share=0.6)
            group["lr"] = arguments.learning_rate * share
        loss = _loss_at(step, judge, pool, truth, arguments.batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            log.info("step %d: loss %.3f", step, loss.item())
        if time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
    save()
    if arguments.export:
        export(judge)
    renderer = Renderer(device)
    log.info("fresh drawings: %s", measure(judge, renderer, fresh_scenes(arguments.fresh)))
    log.info("fresh drawings of subjects: %s", measure(judge, renderer, fresh_subjects(arguments.fresh)))


def _loss_at(step: int, judge: Judge, pool: Pool, truth: Truth, batch: int) -> Tensor:
    """The loss of the batch that belongs to a step."""
    device = next(judge.parameters()).device
    generator = torch.Generator().manual_seed(step)
    index = torch.randint(len(pool), (batch,), generator=generator)
    pictures = pool.pictures[index].to(device).float() / 255
    flipped = (torch.rand(batch, generator=generator) < 0.5).to(device)[:, None, None, None]
    masks = pool.masks[index].to(device).float() / 255
    pictures, masks = (torch.where(flipped, values.flip(-1), values) for values in (pictures, masks))
    pictures = degrade(pictures, torch.Generator(device).manual_seed(step)).contiguous(
        memory_format=torch.channels_last
    )
    with fast_matrices(device):
        scores = judge(pictures)
    chosen = Truth(**{name: getattr(truth, name)[index].to(device) for name in Truth.__dataclass_fields__})
    return loss_of(scores, masks, chosen)


if __name__ == "__main__":
    main()
