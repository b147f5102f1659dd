"""Draw the pool that the judge and the CLIP learn from. Resumes: finished chunks are kept.

Start it twice, with --part 0 2 and --part 1 2, to use two cores.
"""

from __future__ import annotations

import argparse

import torch

from demo_world.commands.options import add_part, positive_int
from demo_world.pool import CHUNK, chunk_path, draw_chunk, pool_folder
from demo_world.renderer import Renderer
from demo_world.storage import training_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=positive_int, default=30_000, help=f"pictures, in chunks of {CHUNK}")
    add_part(parser, "chunk")
    arguments = parser.parse_args()
    log = training_log("draw_pool")
    first, step = arguments.part or (0, 1)
    missing = [n for n in range(-(-arguments.count // CHUNK))[first::step] if not chunk_path(n).exists()]
    if not missing:
        log.info("all chunks are drawn already, in %s", pool_folder())
        return
    renderer = Renderer("cuda" if torch.cuda.is_available() else "cpu")
    for number in missing:
        draw_chunk(renderer, number)
        log.info("drew chunk %d", number)


if __name__ == "__main__":
    main()
