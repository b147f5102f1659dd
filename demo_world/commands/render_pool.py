"""Render the training pictures into the cache folder. Resumes: finished chunks are kept."""

from __future__ import annotations

import argparse

from demo_world.pool import CHUNK, chunk_numbers, render_chunk
from demo_world.storage import training_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000, help=f"pictures to render, in chunks of {CHUNK}")
    arguments = parser.parse_args()
    log = training_log("render_pool")
    finished = set(chunk_numbers())
    for number in range(-(-arguments.count // CHUNK)):
        if number not in finished:
            render_chunk(number)
            log.info("rendered %d pictures", (number + 1) * CHUNK)


if __name__ == "__main__":
    main()
