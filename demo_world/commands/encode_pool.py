"""Encode the rendered pictures with the trained autoencoder. Resumes: finished chunks are kept."""

from __future__ import annotations

import argparse

from demo_world.latents import encode_missing, load_autoencoder
from demo_world.pool import CHUNK, open_pool
from demo_world.storage import training_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000, help=f"pictures to encode, in chunks of {CHUNK}")
    arguments = parser.parse_args()
    log, model, pool = training_log("encode_pool"), load_autoencoder(), open_pool()
    while (number := encode_missing(model, pool, -(-arguments.count // CHUNK))) >= 0:
        log.info("encoded chunk %d", number)


if __name__ == "__main__":
    main()
